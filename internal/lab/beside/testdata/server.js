// A server of the kind that daemons were written against: Node's ws, with what an edge has as well
// (one path, the same largest message). It answers each message, and ends with its standard input.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/daemon/ws', maxPayload: 64 * 1024 });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  socket.on('error', () => {}); // ws has closed the connection
  socket.on('message', (data) => {
    let inReplyTo;
    try { inReplyTo = JSON.parse(data.toString()).id; } catch { /* not JSON */ }
    socket.send(JSON.stringify({ type: 'error', payload: { code: 'NOT_AUTHENTICATED', inReplyTo } }));
  });
});
process.stdin.resume();
process.stdin.on('end', () => process.exit());
