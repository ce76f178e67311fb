#!/bin/sh
# An MCP server for tests in a few lines of shell: it answers line by line, and exits when it is asked to.

# With ONCE it starts only once: the file that ONCE names records the first start.
if [ -n "$ONCE" ]; then
    if [ -e "$ONCE" ]; then echo "no second start" >&2; exit 1; fi
    : > "$ONCE"
fi

answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
quoted() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }

call() {
    case $1 in
        *'"name":"echo"'*) text "$(quoted "$(printf '%s' "$1" | sed 's/.*"arguments":\({[^}]*}\).*/\1/')")" ;;
        *'"name":"env"'*) text "$ADDED ${LEGWORK_REDIS_URL-no address}" ;;
        *'"name":"empty"'*) answer '{"content":[]}' ;;
        *'"name":"parts"'*)
            answer '{"content":[{"type":"text","text":"a"},{"type":"image","data":"AA==","mimeType":"image/png"},{"type":"text","text":"b"}],"isError":true}'
            ;;
        *'"name":"ask.me"'*)
            echo '{"jsonrpc":"2.0","id":99,"method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object","properties":{}}}}'
            read -r reply
            text "$(quoted "$(printf '%s' "$reply" | sed 's/.*"action":"\([a-z]*\)".*/\1/')")"
            ;;
        *'"name":"trace"'*) text "$(printf '%s' "$1" | sed -n 's/.*"traceparent":"\([^"]*\)".*/\1/p')" ;;
        *'"name":"die"'*) exit 3 ;;
        *'"name":"hang"'*) : > "$FOLDER/hangs" ;;
    esac
}

tool() { printf '{"name":"%s","description":"The tool %s","inputSchema":{"type":"object"}%s}' "$1" "$1" "$2"; }

while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case $line in
        *'"method":"initialize"'*)
            answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"shell","version":"1"},"instructions":"Be kind."}'
            ;;
        *'"method":"tools/list"'*)
            answer "{\"tools\":[$(tool echo ',"annotations":{"readOnlyHint":true}'),$(tool env),$(tool empty),$(tool parts),$(tool ask.me ',"annotations":{"idempotentHint":true}'),$(tool die),$(tool hang),$(tool trace)]}"
            ;;
        *'"method":"tools/call"'*) call "$line" ;;
        *'"method":"notifications/cancelled"'*) : > "$FOLDER/cancelled" ;;
    esac
done
