// Package socket is one WebSocket connection of an edge. It owns what is
// delicate about coder/websocket and net/http, so that nobody else has to know:
//
//   - an idle connection keeps no buffer to read into, and the smallest stack that
//     there is: both are taken when something has come (see inbound and await);
//   - the reader runs outside the HTTP handler, which returns at once;
//   - a writer exists only while something waits, and hands all of it to the
//     kernel with one system call;
//   - a peer that takes nothing for the write timeout is cut off, and a peer
//     that floods us without reading our replies is no longer read from;
//   - a peer is read, and its pings are answered, no faster than anybody who
//     means well needs;
//   - frames over our own limit, binary frames and invalid UTF-8 are refused
//     while an answer can still be sent;
//   - Close never makes its caller wait, and ends in bounded time.
//
// It knows nothing of the messages: package edge gives it bytes and a Handler.
//
//	  Accept ─▶ Serve ─▶ (Message | Refused)* ─▶ Ended
//	                │
//	Send, SendEvents ─▶ queue ─▶ writer ─▶ Written
package socket
