-- The requests that wrk sends to deephash serve, and the check of the replies. benchmarks/serve.py runs it with a thread
-- for each connection, so that a reply always belongs to the last request of its thread.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
    thread:set("number", #threads)
end

function init(arguments)
    queries = dofile(arguments[1])
    for _, query in ipairs(queries) do
        query.request = wrk.format("POST", "/search", {["Content-Type"] = "application/json"}, query.body)
    end
    math.randomseed(number)
    answered, refused, wrong, releases = 0, 0, "", {}
end

function request()
    asked = queries[math.random(#queries)]
    return asked.request
end

function response(status, headers, body)
    local is_whole = body:find('"partial":false', 1, true)
    if status == 200 and is_whole and body:find(asked.expected, 1, true) then
        answered = answered + 1
        releases[body:match('"release":"([^"]+)"')] = true
    elseif status == 503 and body:find('"missing":[{', 1, true) then
        refused = refused + 1
    elseif wrong == "" then
        wrong = status .. " " .. body
    end
end

function done(summary, latency, requests)
    local answered, refused, wrong, releases, count = 0, 0, "", {}, 0
    for _, thread in ipairs(threads) do
        answered, refused = answered + thread:get("answered"), refused + thread:get("refused")
        wrong = wrong == "" and thread:get("wrong") or wrong
        for release in pairs(thread:get("releases")) do
            count, releases[release] = count + (releases[release] and 0 or 1), true
        end
    end
    local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    io.write(string.format(
        '\n{"seconds": %g, "p50": %g, "p99": %g, "answered": %d, "refused": %d, "lost": %d, "releases": %d, "wrong": %q}\n',
        summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        answered, refused, lost, count, wrong:gsub("\n", " "):sub(1, 500)))
end
