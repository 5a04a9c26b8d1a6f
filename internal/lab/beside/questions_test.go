package beside_test

import (
	"fmt"
	"slices"
	"strings"
)

// question is what a server is asked: a request, and frames on the connection that
// comes of it.
type question struct {
	name    string
	request string // "": the usual one
	early   string // frames that are sent before the answer to it
	frames  string
	slowly  bool // byte for byte
	again   bool // whether the connection can be used again after a refusal
	racing  bool // an answer may be overtaken by the close: how many there are says nothing
}

// parts are the pieces that are sent.
func (q question) parts(all string) []string {
	if q.slowly {
		return strings.Split(all, "")
	}
	return []string{all}
}

// handshakes are requests as clients and proxies write them, oddly or wrongly.
func handshakes() (all []question) {
	add := func(name string, changes ...string) {
		all = append(all, question{name: name, request: request(changes...)})
	}
	add("as usual")
	for _, value := range []string{
		"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive", "Upgrade, HTTP2-Settings", "close, Upgrade", "keep-alive", "close", "Upgraded",
	} {
		add("Connection: "+value, "Connection: "+value)
	}
	add("two headers Connection", "Connection: keep-alive", "+Connection: Upgrade")
	add("no Connection", "Connection:")
	for _, value := range []string{
		"WebSocket", "WEBSOCKET", "websocket, h2c", "h2c, websocket", "websocket/13", "h2c", "TLS/1.2", "websockets",
	} {
		add("Upgrade: "+value, "Upgrade: "+value)
	}
	add("two headers Upgrade", "+Upgrade: websocket")
	add("no Upgrade", "Upgrade:")
	for _, value := range []string{"8", "12", "14", "013", "13, 8", "8, 13", "x"} {
		add("Sec-WebSocket-Version: "+value, "Sec-WebSocket-Version: "+value)
	}
	add("two headers Sec-WebSocket-Version", "+Sec-WebSocket-Version: 13")
	add("no Sec-WebSocket-Version", "Sec-WebSocket-Version:")
	for _, value := range []string{
		"dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", "dGhlIHNhbXBsZSBub25jZQ", "c2hvcnQ=", "not base64!", "dGhlIHNhbXBsZSBub25jZSB0aGF0IGlzIGxvbmc=",
	} {
		add("Sec-WebSocket-Key: "+value, "Sec-WebSocket-Key: "+value)
	}
	add("two headers Sec-WebSocket-Key", "+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	add("no Sec-WebSocket-Key", "Sec-WebSocket-Key:")
	for _, value := range []string{
		"a", "a, b", "b,a", " a ", "bearer, eyJhbGciOiJIUzI1NiJ9.e30.x-_~", "a,,b", ",a", "a,", "a b", "a, a", "\"a\"", "a;b", "ä",
	} {
		add("Sec-WebSocket-Protocol: "+value, "Sec-WebSocket-Protocol: "+value)
	}
	add("two headers Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a", "+Sec-WebSocket-Protocol: b")
	add("an empty Sec-WebSocket-Protocol", "+Sec-WebSocket-Protocol:")
	for _, value := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
		"permessage-deflate; server_max_window_bits=99", "permessage-deflate; x=", "=", "x-unknown; a=\"b\"",
	} {
		add("Sec-WebSocket-Extensions: "+value, "Sec-WebSocket-Extensions: "+value)
	}
	for _, first := range []string{
		"GET /daemon/ws HTTP/1.0", "GET /daemon/ws HTTP/1.2", "GET /daemon/ws HTTP/2.0", "GET /daemon/ws", "get /daemon/ws HTTP/1.1", "POST /daemon/ws HTTP/1.1",
		"HEAD /daemon/ws HTTP/1.1", "OPTIONS /daemon/ws HTTP/1.1", "CONNECT /daemon/ws HTTP/1.1", "GET http://gateway.example/daemon/ws HTTP/1.1",
		"GET /daemon/ws?token=x HTTP/1.1", "GET /daemon/ws? HTTP/1.1", "GET /daemon/ws?a=/../b&c=%zz HTTP/1.1", "GET /daemon/ws/ HTTP/1.1",
		"GET //daemon/ws HTTP/1.1", "GET /daemon//ws HTTP/1.1", "GET /daemon/../daemon/ws HTTP/1.1", "GET /daemon/%77s HTTP/1.1", "GET /daemon%2Fws HTTP/1.1",
		"GET /DAEMON/WS HTTP/1.1", "GET /daemon/ws#x HTTP/1.1", "GET /daemon/ws;v=1 HTTP/1.1", "GET /daemon HTTP/1.1", "GET / HTTP/1.1", "GET daemon/ws HTTP/1.1",
		"GET  /daemon/ws HTTP/1.1", "GET /daemon/ws  HTTP/1.1", "GET /daemon/ws http/1.1",
	} {
		add(first, first)
	}
	add("no Host", "Host:")
	for _, value := range []string{"gateway.example:8443", "127.0.0.1", "[::1]:80", "GATEWAY.example.", "a b", "a/b", "ä"} {
		add("Host: "+value, "Host: "+value)
	}
	add("two headers Host", "+Host: gateway.example")
	for _, line := range []string{
		"Origin: https://elsewhere.example", "Origin: null", "Origin: not an address", "Authorization: Bearer x", "Cookie: a=b; c=\"d\"", "X-Text: ü", "X-Empty: ",
		"X-Tabs:\ta\t", "Sec-Fetch-Mode: websocket", "X-Forwarded-For: 203.0.113.9:1, [2001:db8::7]", "X-Forwarded-Proto: https", "Forwarded: for=_x",
		"Expect: 100-continue", "TE: trailers", "Accept-Encoding: gzip, br", "Proxy-Connection: keep-alive", "Content-Length: 0", "Content-Type: application/json",
		"Keep-Alive: timeout=5", "X-Folded: a\r\n b", "X-Space : a", "X Y: a", "no colon", ": no name", "X-Zero: a\x00b", "X-Bell: a\x07b", "X-Return: a\rb",
	} {
		add(fmt.Sprintf("%.40q", line), "+"+line)
	}
	for _, kilobytes := range []int{4, 7, 12, 40} {
		add(fmt.Sprintf("a header of %d KB", kilobytes), "Cookie: a="+strings.Repeat("b", kilobytes<<10))
	}
	for _, n := range []int{50, 150} {
		add(fmt.Sprintf("%d headers", n), slices.Collect(func(yield func(string) bool) {
			for i := 0; i < n && yield(fmt.Sprintf("+X-%d: a", i)); i++ {
			}
		})...)
	}
	small := strings.NewReplacer("Host", "host", "Upgrade:", "upgrade:", "Connection", "connection", "Sec-WebSocket-Key", "sec-websocket-key", "Sec-WebSocket-Version", "SEC-WEBSOCKET-VERSION")
	usual := request()
	return append(all,
		question{name: "names of headers in other letters", request: small.Replace(usual)},
		question{name: "no spaces after colons", request: strings.ReplaceAll(usual, ": ", ":")},
		question{name: "line feeds alone", request: strings.ReplaceAll(usual, "\r\n", "\n")},
		question{name: "an empty line before it", request: "\r\n" + usual},
		question{name: "two empty lines before it", request: "\r\n\r\n" + usual},
		question{name: "another request after a refusal", request: request("Sec-WebSocket-Key: short"), again: true},
		question{name: "byte for byte", request: usual, slowly: true},
		question{name: "a message in the same packet", early: whole("early")},
		question{name: "a body of five bytes", request: request("+Content-Length: 5") + "hello"},
		question{name: "a body in chunks", request: request("+Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n"},
		question{name: "what is no HTTP", request: "hello\r\n\r\n"},
		question{name: "TLS", request: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n"},
	)
}

// conversations are frames as clients send them, oddly or wrongly.
func conversations() (all []question) {
	add := func(name string, frames ...string) {
		all = append(all, question{name: name, frames: strings.Join(frames, "")})
	}
	const most = 64 << 10
	message := strings.Replace(over, `"over"`, `"1"`, 1)
	add("nothing")
	add("a message", whole(message))
	add("ten messages in a packet", strings.Repeat(whole(message), 10))
	add("what is no JSON", whole("hello"))
	add("an empty message", whole(""))
	add("a mask that is not zero", string([]byte{fin | text, 0x80 | 2, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2}))
	add("no mask", string([]byte{fin | text, 2})+"ab")
	add("a ping without mask", string([]byte{fin | ping, 0}))
	add("a close without mask", string([]byte{fin | closing, 2, 3, 232}))

	add("three fragments", frame(text, message[:9]), frame(continuation, message[9:20]), frame(fin|continuation, message[20:]))
	add("fragments without anything in them", frame(text, ""), frame(continuation, ""), frame(continuation, message), frame(fin|continuation, ""))
	add("a hundred fragments", frame(text, ""), strings.Repeat(frame(continuation, "x"), 100), frame(fin|continuation, ""))
	add("a ping between fragments", frame(text, "a"), frame(fin|ping, "between"), frame(fin|continuation, "b"))
	add("a pong between fragments", frame(text, "a"), frame(fin|pong, "between"), frame(fin|continuation, "b"))
	add("a close between fragments", frame(text, "a"), closeFrame(1000, ""))
	add("a message between fragments", frame(text, "a"), whole("b"), frame(fin|continuation, "c"))
	add("a continuation of nothing", frame(fin|continuation, "a"))
	add("a first fragment of nothing", frame(continuation, "a"))

	for _, n := range []int{0, 1, 125} {
		add(fmt.Sprintf("a ping of %d bytes", n), frame(fin|ping, strings.Repeat("p", n)))
	}
	add("a ping of 126 bytes", frame(fin|ping, strings.Repeat("p", 126)))
	add("a ping that is not UTF-8", frame(fin|ping, "\xff\x00"))
	add("two pings", frame(fin|ping, "1"), frame(fin|ping, "2"))
	add("a ping in two fragments", frame(ping, "a"), frame(fin|continuation, "b"))
	add("pongs that nobody asked for", frame(fin|pong, ""), frame(fin|pong, "keep-alive"))
	add("a pong of 126 bytes", frame(fin|pong, strings.Repeat("p", 126)))

	for bit := range 3 {
		add(fmt.Sprintf("reserved bit %d", bit+1), frame(fin|text|0x40>>bit, "a"))
		add(fmt.Sprintf("reserved bit %d of a ping", bit+1), frame(fin|ping|0x40>>bit, "a"))
		add(fmt.Sprintf("reserved bit %d of a continuation", bit+1), frame(text, "a"), frame(fin|continuation|0x40>>bit, "a"))
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(fmt.Sprintf("opcode %d", opcode), frame(fin|opcode, "a"))
	}
	add("a binary message", frame(fin|binaryData, message))
	add("a binary message in fragments", frame(binaryData, message[:9]), frame(fin|continuation, message[9:]))
	add("an empty binary message", frame(fin|binaryData, ""))

	add("a length in two bytes that fits into one", longFrame(fin|text, 2, 5, "hello"))
	add("a length in eight bytes that fits into one", longFrame(fin|text, 8, 5, "hello"))
	add("a length in eight bytes that fits into two", longFrame(fin|text, 8, 300, strings.Repeat("x", 300)))
	add("a ping with its length in two bytes", longFrame(fin|ping, 2, 5, "hello"))
	add("a ping with its length in eight bytes", longFrame(fin|ping, 8, 5, "hello"))
	add("a close with its length in two bytes", longFrame(fin|closing, 2, 2, "\x03\xe8"))
	add("a length of 2^63", longFrame(fin|text, 8, 1<<63, "hello"))
	add("a length of 2^53", longFrame(fin|text, 8, 1<<53, strings.Repeat("x", 2*most)))
	add("the largest message", whole(message+strings.Repeat(" ", most-len(message))))
	add("one byte more", whole(message+strings.Repeat(" ", most+1-len(message))))
	add("much more", whole(strings.Repeat("x", 4*most)))
	add("the largest message in fragments", frame(text, strings.Repeat("x", most/2)), frame(fin|continuation, strings.Repeat("x", most/2)))
	add("one byte more in fragments", frame(text, strings.Repeat("x", most/2)), frame(continuation, strings.Repeat("x", most/2)), frame(fin|continuation, "x"))

	for name, data := range map[string]string{
		"all lengths": "aé€😀", "a zero": "a\x00b", "noncharacters": "\ufffe\uffff\U0010ffff", "a byte order mark": "\ufeff" + message,
	} {
		add("UTF-8: "+name, whole(data))
	}
	for name, data := range map[string]string{
		"a byte that none has": "a\xffb", "a lone continuation": "a\x80", "cut off": "a\xe2\x82", "too long": "\xc0\xaf", "a surrogate": "\xed\xa0\x80", "beyond the last": "\xf4\x90\x80\x80",
	} {
		add("not UTF-8: "+name, whole(data))
	}
	add("UTF-8 cut between fragments", frame(text, "a\xe2\x82"), frame(fin|continuation, "\xac"))
	add("not UTF-8 in the first fragment", frame(text, "a\xff"), frame(fin|continuation, "b"))
	add("not UTF-8 over two fragments", frame(text, "a\xe2"), frame(fin|continuation, "b"))

	add("a close with nothing", frame(fin|closing, ""))
	add("a close of one byte", frame(fin|closing, "\x03"))
	for _, code := range []uint16{
		0, 1, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1100, 1999, 2000, 2999, 3000, 3999, 4000, 4001, 4999, 5000, 65535,
	} {
		add(fmt.Sprintf("a close with %d", code), closeFrame(code, ""))
	}
	add("a close with a reason", closeFrame(1000, "mine ü"))
	add("a close with the longest reason", closeFrame(4000, "mine"+strings.Repeat("r", 119)))
	add("a close with a reason that is too long", closeFrame(1000, "mine"+strings.Repeat("r", 120)))
	add("a close with a reason that is not UTF-8", closeFrame(1000, "mine\xff"))
	add("a close in fragments", frame(closing, "\x03\xe8"), frame(fin|continuation, ""))
	add("a message after the close", closeFrame(1000, ""), whole("late"))
	add("a ping after the close", closeFrame(1000, ""), frame(fin|ping, "late"))
	add("two closes", closeFrame(1000, ""), closeFrame(1001, ""))
	add("a wrong frame after the close", closeFrame(1000, ""), frame(fin|3, ""))
	return append(all,
		question{name: "a message before the close", frames: whole(message) + closeFrame(1000, ""), racing: true},
		question{name: "a continuation of what has ended", frames: whole("a") + frame(fin|continuation, "b"), racing: true},
	)
}
