"""The page of queries and their results: self-contained, with all data escaped."""

import base64
import io
import re

import numpy as np
from PIL import Image

from deephash.report.neighbours_page import ItemCard, Neighbour, render_neighbours_page

BAD = '<script>alert("x")</script> & more'


def page_of(*found, query=None):
    return render_neighbours_page(BAD, {("image", "text<i>"): [(query or ItemCard(7), found)]})


def test_everything_is_escaped():
    page = page_of(Neighbour(ItemCard(3, classes=BAD, words=BAD), 2, True))
    assert "<script" not in page
    assert "<i>" not in page
    assert page.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more") == 4


def test_relevant_and_other_items_are_marked_and_counted():
    page = page_of(*(Neighbour(ItemCard(row), row, row % 3 == 0) for row in range(6)))
    assert page.count('class="card good"') == 2
    assert page.count('class="card bad"') == 4
    assert "2 of 6 relevant" in page
    assert page.index("distance 0") < page.index("distance 5")


def test_pictures_are_in_the_page_and_small():
    image = np.zeros((300, 150, 3), np.uint8)
    image[:, :75] = 255
    page = page_of(query=ItemCard(1, image=image))
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert picture.shape == (96, 48, 3)
    assert picture[50, 5].tolist() == [255, 255, 255]
    assert picture[50, 45].tolist() == [0, 0, 0]
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_long_texts_are_cut():
    page = page_of(Neighbour(ItemCard(3, words="word " * 200), 2, True))
    assert "…" in page
    assert page.count("word") < 40


def test_the_page_is_well_formed():
    from xml.etree import ElementTree

    page = page_of(Neighbour(ItemCard(3, classes="a", words="b", image=np.zeros((4, 4), np.uint8)), 2, True))
    body = page[page.index("<body>") : page.index("</html>")]
    # HTML's pictures have no end tag.
    assert ElementTree.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", body)).tag == "body"


def test_names_that_are_no_text_can_be_written():
    page = page_of(Neighbour(ItemCard(3, classes="\udcff<b>"), 2, True))
    assert "&#56575;&lt;b&gt;" in page
    page.encode()
