/**
 * What the bundled programs know as `undici`: its pool of connections and its way through proxies, without fetch,
 * WebSocket, caches and the rest, which take three times as long to load. `undici` itself names no file for this; one
 * that has moved fails the build.
 */
import connect from 'undici/lib/api/api-connect.js';
import request from 'undici/lib/api/api-request.js';
import buildConnector from 'undici/lib/core/connect.js';
import Agent from 'undici/lib/dispatcher/agent.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';
import Pool from 'undici/lib/dispatcher/pool.js';
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js';

Object.assign(Dispatcher.prototype, { connect, request });

export { Agent, buildConnector, Pool, ProxyAgent };
