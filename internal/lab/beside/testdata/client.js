// What daemons do with Node's ws, option by option, with the server at the address that is given. Each line
// of the output says what came of one; nothing is judged here.
'use strict';
const WebSocket = require('ws');

const [, , address] = process.argv;
const message = (id) => JSON.stringify({ type: 'heartbeat', id, timestamp: '2026-11-22T10:00:00.000Z', payload: {} });

// connect returns what happened until the connection has ended. use is called when it is open, and
// next with each answer.
function connect(protocols, options, use, next = (socket) => socket.close(1000, 'done')) {
  return new Promise((done) => {
    const seen = { events: [] };
    const socket = new WebSocket(options.address ?? address, protocols, options);
    socket.on('upgrade', (response) => {
      seen.status = response.statusCode;
      seen.headers = ['upgrade', 'connection', 'sec-websocket-protocol', 'sec-websocket-extensions']
        .map((name) => `${name}: ${response.headers[name] ?? '-'}`.toLowerCase());
    });
    socket.on('unexpected-response', (_, response) => {
      response.resume();
      done({ status: response.statusCode });
      socket.terminate();
    });
    socket.on('error', (error) => seen.events.push(`error ${error.code ?? error.message}`));
    socket.on('open', () => { seen.protocol = socket.protocol; seen.extensions = socket.extensions; use(socket); });
    socket.on('message', (data, isBinary) => { seen.events.push(isBinary ? 'binary' : 'text'); next(socket); });
    socket.on('pong', (data) => seen.events.push(`pong ${data}`));
    socket.on('ping', () => seen.events.push('ping'));
    socket.on('close', (code, reason) => { seen.close = `${code} ${reason}`; done(seen); });
  });
}

const send = (socket) => socket.send(message('1'));
const plain = (protocols, options = {}) => () => connect(protocols, options, send);
const act = (use, next) => () => connect([], {}, use, next);
const closing = (...close) => act((socket) => socket.close(...close));

const scenarios = {
  'no options': plain([]),
  'one subprotocol': plain(['neolith.v1']),
  'two subprotocols': plain(['b', 'a']),
  'a token as subprotocol': plain(['bearer', 'eyJhbGciOiJIUzI1NiJ9.e30.x-_~']),
  'compression offered': plain([], { perMessageDeflate: true }),
  'compression with all parameters': plain([], {
    perMessageDeflate: { serverNoContextTakeover: true, clientNoContextTakeover: true, serverMaxWindowBits: 10, clientMaxWindowBits: 10 },
  }),
  'no compression': plain([], { perMessageDeflate: false }),
  'an origin': plain([], { origin: 'https://neolith.example' }),
  'a null origin': plain([], { origin: 'null' }),
  'headers of its own': plain([], { headers: { 'User-Agent': 'daemon/1', Authorization: 'Bearer x', Cookie: 'a=b', 'X-Daemon': 'ü' } }),
  'another host': plain([], { headers: { Host: 'neolith.example:8443' } }),
  'user and password in the address': plain([], { address: address.replace('://', '://user:secret@') }),
  'a query in the address': plain([], { address: address + '?token=x&v=1' }),
  'an empty query': plain([], { address: address + '?' }),
  'redirects followed': plain([], { followRedirects: true }),
  'a limit for the handshake': plain([], { handshakeTimeout: 300000 }),
  'the older version of the protocol': plain([], { protocolVersion: 8 }),
  'another path': plain([], { address: address + '/more' }),
  'a slash at the end': plain([], { address: address + '/' }),
  'without checks of UTF-8': plain([], { skipUTF8Validation: true }),
  'a keep-alive agent': plain([], { agent: new (require('node:http').Agent)({ keepAlive: true }) }),

  'a message in three fragments': act((socket) => {
    const text = message('1');
    socket.send(text.slice(0, 10), { fin: false });
    socket.send(text.slice(10, 20), { fin: false });
    socket.send(text.slice(20), { fin: true });
  }),
  'a ping between fragments': act((socket) => {
    const text = message('1');
    socket.send(text.slice(0, 10), { fin: false });
    socket.ping('between');
    socket.send(text.slice(10), { fin: true });
  }),
  'a ping with text': act((socket) => { socket.ping('hello'); send(socket); }),
  'a ping without anything': act((socket) => { socket.ping(); send(socket); }),
  'a ping as long as may be': act((socket) => { socket.ping('p'.repeat(125)); send(socket); }),
  'pongs that nobody asked for': act((socket) => { socket.pong('1'); socket.pong(); socket.pong('3'); send(socket); }),
  'what is no JSON': act((socket) => socket.send('hello')),
  'an empty message': act((socket) => socket.send('')),
  'a Buffer sent as text': act((socket) => socket.send(Buffer.from(message('1')), { binary: false })),
  'a binary message': act((socket) => socket.send(Buffer.from(message('1')))),
  'the largest message': act((socket) => socket.send(message('1').padEnd(64 * 1024))),
  'one byte more': act((socket) => socket.send(message('1').padEnd(64 * 1024 + 1))),
  'many messages at once': (() => { let n = 0; return act((socket) => { for (let i = 0; i < 50; i++) send(socket); }, (socket) => { if (++n === 50) socket.close(1000); }); })(),

  'closed without a code': closing(),
  'closed with 1000': closing(1000),
  'closed with a reason': closing(1000, 'going home – ü'),
  'closed with the longest reason': closing(1001, 'r'.repeat(123)),
  'closed with a code of its own': closing(4321, 'mine'),
  'closed with 3000': closing(3000),
};

(async () => {
  for (const [name, run] of Object.entries(scenarios)) console.log(JSON.stringify({ name, ...await run() }));
})();
