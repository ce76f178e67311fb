#!/bin/sh
# An MCP server for tests that does what servers do and the protocol does not say. Its argument names the quirks.

answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
tool() { printf '{"name":"%s","inputSchema":{"type":"object"}}' "$1"; }

capabilities='{"tools":{"listChanged":true}}'
case $1 in *no_capability*) capabilities='{}' ;; esac
tools="$(tool odd),$(tool image),$(tool grow),$(tool shrink)"
case $1 in *odd_tool*) tools="$tools,{\"name\":\"bad\",\"inputSchema\":7}" ;; esac
case $1 in
    *many*) for n in 1 2 3; do for m in 0 1 2 3 4 5 6 7 8 9; do for k in 0 1 2 3 4 5 6 7 8 9; do
        page="$page{\"name\":\"t$n$m$k\",\"inputSchema\":{\"type\":\"object\"}},"
    done; done; done ;;
    *heavy*) page="{\"name\":\"odd\",\"description\":\"$(printf '%01000000d' 0)\",\"inputSchema\":{\"type\":\"object\"}}," ;;
esac
case $1 in *noise*) echo 'Starting server v1...'; echo ''; echo '[INFO] listening' ;; esac

while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case $line in
        *'"method":"initialize"'*)
            answer "{\"protocolVersion\":\"2025-06-18\",\"capabilities\":$capabilities,\"serverInfo\":{\"name\":\"q\",\"version\":\"1\"}}"
            ;;
        *'"method":"tools/list"'*)
            case $1$line in
                *many* | *heavy*) answer "{\"tools\":[${page%,}],\"nextCursor\":\"again\"}" ;;
                *endless*) answer "{\"tools\":[$(tool odd)],\"nextCursor\":\"again\"}" ;;
                *) answer "{\"tools\":[$tools],\"nextCursor\":\"\"}" ;;
            esac
            ;;
        *'"name":"odd"'*)
            answer '{"content":[{"type":"text","text":"one "},{"type":"weird","x":1},{"type":"text","text":" two"}]}'
            ;;
        *'"name":"image"'*)
            answer '{"content":[{"type":"text","text":"a "},{"type":"image","data":"iVBORw0KGgo=","mimeType":"image/jpeg"},{"type":"image","data":"AA==","mimeType":"image/png"}]}'
            ;;
        *'"name":"grow"'*)
            tools="$tools,$(tool later)"
            echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
            answer '{"content":[{"type":"text","text":"grown"}]}'
            ;;
        *'"name":"shrink"'*)
            tools=$(tool odd)
            echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
            answer '{"content":[{"type":"text","text":"shrunk"}]}'
            ;;
        *'"name":"later"'*) answer '{"content":[{"type":"text","text":"later"}]}' ;;
    esac
done
