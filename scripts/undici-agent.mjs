/**
 * What the bundled programs know as `undici`: its pool of connections, without fetch, WebSocket, caches and the rest,
 * which take three times as long to load. `undici` itself names no file for this; one that has moved fails the build.
 */
import request from 'undici/lib/api/api-request.js';
import Agent from 'undici/lib/dispatcher/agent.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';

Object.assign(Dispatcher.prototype, { request });

export { Agent };
