// Requests to the server. The message of an error is the server's sentence.

export async function fetchJSON(address, options = {}, advice = "The server does not answer; is deephash demo still running?") {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(advice);
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  const reason = typeof body.detail === "string" ? body.detail : `The server answers with error ${response.status}.`;
  throw Object.assign(new Error(reason), { status: response.status });
}

export function listRuns() {
  return fetchJSON("/api/runs");
}

export function listCurves() {
  return fetchJSON("/api/curves");
}

export function drawQueries(run, view, seed, count) {
  return fetchJSON(`/api/runs/${run.number}/queries?${new URLSearchParams({ view, seed, count })}`);
}

// A question is {kind: "item", row}, {kind: "image", file} or {kind: "text", text}.
export function findNeighbours(run, question, direction, k, signal) {
  const base = `/api/runs/${run.number}/neighbours`;
  const { asking, searched } = direction;
  if (question.kind === "item") {
    return fetchJSON(`${base}?${new URLSearchParams({ row: question.row, asking, searched, k })}`, { signal });
  }
  const body = question.kind === "image" ? question.file : question.text;
  const headers = { "Content-Type": question.kind === "image" ? "application/octet-stream" : "text/plain" };
  const address = `${base}/${question.kind}?${new URLSearchParams({ searched, k })}`;
  return fetchJSON(address, { method: "POST", body, headers, signal });
}
