// The server that the gateway replaces, as far as daemons see it, to compare with: one Node
// process that hears events on Redis, pushes them to the WebSockets of their orchestrator, and
// keeps in Redis what was sent and not yet acknowledged. Nothing else is stored, and nothing is
// sent again. It needs nothing but Node; PORT, REDIS_PORT and JWT_SECRET are in its environment.
'use strict';
const crypto = require('node:crypto');
const http = require('node:http');
const net = require('node:net');

// ---- Redis: commands are gathered until the event loop turns, as clients do.

function redis(onMessage) {
  const socket = net.connect({ host: '127.0.0.1', port: Number(process.env.REDIS_PORT), noDelay: true });
  let pending = '', input = Buffer.alloc(0);
  socket.on('error', (error) => { console.error(error); process.exit(1); });
  socket.on('data', (data) => {
    if (!onMessage) return; // answers to writes, which nobody waits for
    input = input.length ? Buffer.concat([input, data]) : data;
    for (let at = 0; ;) {
      const reply = readArray(input, at);
      if (!reply) { input = input.subarray(at); return; }
      at = reply.end;
      if (reply.items[0] === 'message') onMessage(reply.items[2]);
    }
  });
  return (...args) => {
    if (!pending) setImmediate(() => { socket.write(pending); pending = ''; });
    pending += `*${args.length}\r\n` + args.map((a) => `$${Buffer.byteLength(a)}\r\n${a}\r\n`).join('');
  };
}

// readArray reads an array of strings and numbers, or returns null if it is not whole.
function readArray(input, at) {
  const line = () => {
    const end = input.indexOf('\r\n', at);
    if (end < 0) return null;
    const text = input.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const head = line();
  if (head === null) return null;
  const items = [];
  for (let n = Number(head.slice(1)); n > 0; n--) {
    const item = line();
    if (item === null) return null;
    if (item[0] !== '$') { items.push(item.slice(1)); continue; }
    const length = Number(item.slice(1));
    if (input.length < at + length + 2) return null;
    items.push(input.toString('utf8', at, at + length));
    at += length + 2;
  }
  return { items, end: at };
}

// ---- WebSocket: texts in one frame each.

function frame(opcode, payload) {
  const n = payload.length;
  const head = n < 126 ? Buffer.from([0x80 | opcode, n]) : Buffer.from([0x80 | opcode, 126, n >> 8, n & 255]);
  return Buffer.concat([head, payload]);
}

function readFrames(socket, onText) {
  let input = Buffer.alloc(0);
  socket.on('data', (data) => {
    input = input.length ? Buffer.concat([input, data]) : data;
    for (;;) {
      if (input.length < 2) return;
      let n = input[1] & 127, at = 2;
      if (n === 126) { if (input.length < 4) return; n = input.readUInt16BE(2); at = 4; }
      if (n === 127) return socket.destroy(); // nothing that daemons send
      if (input.length < at + 4 + n) return;
      const opcode = input[0] & 15, mask = input.subarray(at, at + 4), payload = input.subarray(at + 4, at + 4 + n);
      for (let i = 0; i < n; i++) payload[i] ^= mask[i & 3];
      input = input.subarray(at + 4 + n);
      if (opcode === 8) return socket.end(frame(8, payload));
      if (opcode === 9) socket.write(frame(10, payload));
      if (opcode === 1) onText(payload.toString('utf8'));
    }
  });
}

// ---- Daemons.

function verify(token) {
  const [head, body, signature] = token.split('.');
  const want = crypto.createHmac('sha256', process.env.JWT_SECRET).update(`${head}.${body}`).digest();
  const have = Buffer.from(signature, 'base64url');
  if (want.length !== have.length || !crypto.timingSafeEqual(want, have)) throw new Error('bad signature');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  if (claims.exp * 1000 < Date.now()) throw new Error('expired');
  return claims;
}

const sessions = new Map(); // of each orchestrator
const command = redis();

function send(socket, type, payload) {
  const text = JSON.stringify({ type, id: crypto.randomUUID(), timestamp: new Date().toISOString(), payload });
  socket.write(frame(1, Buffer.from(text)));
}

function deliver(text) {
  const event = JSON.parse(text);
  for (const s of sessions.get(event.orchestratorId) ?? []) {
    if (event.daemonId && event.daemonId !== s.daemonId) continue;
    if (!s.subscriptions.some((p) => (!p.eventTypes || p.eventTypes.includes(event.type)) && (!p.channels || p.channels.includes(event.channelId)))) continue;
    send(s.socket, 'event', { eventId: event.id, eventType: event.type, data: event.payload, requiresAck: event.requiresAck === true });
    if (event.requiresAck) command('HSET', `daemon:pending:${s.daemonId}`, event.id, JSON.stringify({ event, sentAt: Date.now(), attempts: 1 }));
  }
}

function authenticate(socket, p) {
  const claims = verify(p.accessToken);
  if (claims.orchestratorId !== p.orchestratorId || claims.daemonId !== p.daemonId) throw new Error('another identity');
  const session = { socket, daemonId: p.daemonId, subscriptions: [] };
  if (!sessions.has(p.orchestratorId)) sessions.set(p.orchestratorId, new Set());
  sessions.get(p.orchestratorId).add(session);
  socket.on('close', () => sessions.get(p.orchestratorId).delete(session));
  send(socket, 'auth_success', { sessionId: crypto.randomUUID(), serverTime: new Date().toISOString() });
  return session;
}

const server = http.createServer((_, response) => response.writeHead(426).end());
server.on('upgrade', (request, socket) => {
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.setNoDelay(true);
  socket.on('error', () => {});
  let session = null;
  readFrames(socket, (text) => {
    const m = JSON.parse(text);
    if (!session) {
      try { session = authenticate(socket, m.payload); } catch (error) { send(socket, 'auth_error', { message: error.message }); socket.end(frame(8, Buffer.from([0x0f, 0xa1]))); }
    } else if (m.type === 'subscribe') session.subscriptions.push(m.payload);
    else if (m.type === 'ack' && m.payload.eventIds?.length) command('HDEL', `daemon:pending:${session.daemonId}`, ...m.payload.eventIds);
    else if (m.type === 'heartbeat') send(socket, 'heartbeat_ack', {});
  });
});
redis(deliver)('SUBSCRIBE', 'daemon:events');
server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
