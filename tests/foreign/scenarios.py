"""What the mock answers in each scenario, and what a job must come to."""

from dataclasses import dataclass, field

SKY = "The sky is blue, and the sea is deep."
DONE = "All of it is noted."
# What must not be the answer: the reply that has it is broken.
BAD = "These words belong to a reply that is broken."
LONG = "Water runs downhill. " * 3000


@dataclass(frozen=True, eq=False)
class Scenario:
    name: str
    # Pairs of a match, beyond the scenario's own words, and a fixture without its match.
    answers: list
    # The answer of the job; `None` where it must fail.
    text: str | None = None
    # What the tool wrote, each once.
    notes: tuple = ()
    # Words of the error, one of which must be there; empty where it must complete.
    error: tuple = ()
    # Tried on the aliases of a wire too.
    on_aliases: bool = False
    # Providers whose wire cannot have it.
    not_at: tuple = ()
    # More keys of the model, and of its `provider_opts`.
    model: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def note(*texts):
    return [{"name": "note", "arguments": {"text": text}} for text in texts]


def then(first, **more):
    """A reply with tool calls, and the answer after their results."""
    return [({"hasToolResult": False}, {"response": first, **more}), ({}, {"response": {"content": DONE}})]


def always(response, **more):
    return [({}, {"response": response, **more})]


def first(answer):
    """The given answer once, then a good one."""
    return [({"sequenceIndex": 0}, answer), ({}, {"response": {"content": SKY}})]


def failure(status, kind, message, **more):
    return {"response": {"error": {"message": message, "type": kind}, "status": status, **more}}


def call(text):
    return {"type": "toolCall", "name": "note", "arguments": {"text": text}}


def words(text):
    return {"type": "text", "text": text}


TOO_MANY = failure(429, "rate_limit_error", "Rate limit reached for this model", retryAfter=1)
OVERLOADED = failure(503, "overloaded_error", "The model is overloaded")
# The mock ends a filtered response on OpenAI's second wire as one that failed, without a reason.
FILTERED = ("filter", "the response failed")
# What each good answer costs, whatever its length.
TOKENS = {"prompt_tokens": 11, "completion_tokens": 7}

SCENARIOS = [
    Scenario("text", always({"content": SKY}), text=SKY, on_aliases=True),
    Scenario("long text", always({"content": LONG}), text=LONG.rstrip()),
    Scenario("unicode", always({"content": "Zoë 🐟 — 水 \u200b done"}), text="Zoë 🐟 — 水 \u200b done"),
    Scenario("one tool", then({"toolCalls": note("a")}), text=DONE, notes=("a",), on_aliases=True),
    Scenario(
        "parallel tools", then({"toolCalls": note("a", "b", "c")}), text=DONE, notes=("a", "b", "c"), on_aliases=True
    ),
    Scenario("same call twice", then({"toolCalls": note("a", "a")}), text=DONE, notes=("a", "a")),
    Scenario("text and tool", then({"content": "One moment.", "toolCalls": note("a")}), text=DONE, notes=("a",)),
    Scenario("tool, then text", then({"blocks": [call("a"), words("One moment.")]}), text=DONE, notes=("a",)),
    Scenario(
        "text and tools in turn",
        then({"blocks": [words("One."), call("a"), words("Two."), call("b")]}),
        text=DONE,
        notes=("a", "b"),
    ),
    Scenario("reasoning", always({"content": SKY, "reasoning": "Blue light scatters."}), text=SKY, on_aliases=True),
    Scenario(
        "reasoning and tool",
        then({"content": "", "reasoning": "It must be noted.", "toolCalls": note("a")}),
        text=DONE,
        notes=("a",),
        model={"thinking_budget": 2048, "max_tokens": 8192},
    ),
    Scenario(
        "a tool that is not there",
        [
            ({"hasToolResult": False}, {"response": {"toolCalls": [{"name": "absent", "arguments": {}}]}}),
            ({}, {"response": {"content": DONE}}),
        ],
        text=DONE,
    ),
    Scenario(
        "length",
        always({"content": "The sky is", "finishReason": "length"}),
        error=("output limit", "output tokens", "max_tokens"),
    ),
    Scenario("content filter", always({"content": "The", "finishReason": "content_filter"}), error=FILTERED),
    Scenario("empty", always({"content": ""}), error=("reply is empty", "no answer")),
    Scenario("400", [({}, failure(400, "invalid_request_error", "The field is odd"))], error=("The field is odd",)),
    Scenario("401", [({}, failure(401, "authentication_error", "The key is wrong"))], error=("The key is wrong",)),
    Scenario(
        "404", [({}, failure(404, "not_found_error", "There is no such model"))], error=("There is no such model",)
    ),
    Scenario("429 once", first(TOO_MANY), text=SKY, on_aliases=True),
    Scenario("503 once", first(OVERLOADED), text=SKY),
    Scenario("500 once", first(failure(500, "api_error", "Something broke")), text=SKY),
    Scenario("429 always", [({}, TOO_MANY)], error=("Rate limit reached",)),
    Scenario("503 always", [({}, OVERLOADED)], error=("overloaded",)),
    Scenario("cut once", first({"response": {"content": BAD}, "truncateAfterChunks": 2, "chunkSize": 5}), text=SKY),
    Scenario(
        "cut always",
        always({"content": SKY}, truncateAfterChunks=2, chunkSize=5),
        error=("broke off", "ended", "closed", "connection", "broken"),
    ),
    Scenario(
        "tool cut once",
        [
            (
                {"sequenceIndex": 0, "hasToolResult": False},
                {"response": {"toolCalls": note("b")}, "truncateAfterChunks": 2},
            ),
            ({"hasToolResult": False}, {"response": {"toolCalls": note("a")}}),
            ({}, {"response": {"content": DONE}}),
        ],
        text=DONE,
        notes=("a",),
        # A call comes in one piece there.
        not_at=("google", "vertex"),
    ),
    Scenario(
        "disconnected once",
        first({"response": {"content": LONG}, "disconnectAfterMs": 30, "chunkSize": 20, "latency": 5}),
        text=SKY,
    ),
    Scenario(
        "silent once",
        first({"response": {"content": BAD}, "streamingProfile": {"ttft": 20000, "tps": 100}}),
        text=SKY,
        options={"first_byte_timeout": "3s"},
    ),
    Scenario(
        "stalled once",
        first({"response": {"content": LONG}, "chunkSize": 20, "latency": 20000}),
        text=SKY,
        options={"first_byte_timeout": "3s", "idle_timeout": "3s"},
    ),
    Scenario("garbage once", first({"response": {"content": BAD}, "chaos": {"malformedRate": 1}}), text=SKY),
    Scenario("dropped once", first({"response": {"content": BAD}, "chaos": {"dropRate": 1}}), text=SKY),
    Scenario("hung up once", first({"response": {"content": BAD}, "chaos": {"disconnectRate": 1}}), text=SKY),
]
