/**
 * Resolves host names as the system does. `dns.lookup` runs on Node's pool of four threads, where two names with silent name
 * servers delay all other lookups by half a minute; the addon uses a thread for each.
 */
import { ADDRCONFIG, type LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import { findAddon } from './addon.ts';

/** Numbers of getaddrinfo(3) in glibc and musl → Node's codes. */
const CODES: Readonly<Record<number, string>> = { [-2]: 'ENOTFOUND', [-5]: 'ENOTFOUND', [-3]: 'EAI_AGAIN' };

/** Addresses in the order in which they are to be tried. Rejects as `dns.lookup` does: an error with a code. */
export async function resolve(name: string): Promise<LookupAddress[]> {
  const native = findAddon();
  if (native === null) return await lookup(name, { all: true, hints: ADDRCONFIG });
  const { addresses, failure } = await native.resolve(name);
  if (failure !== 0) throw lookupError(name, CODES[failure] ?? 'EAI_FAIL');
  return addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
}

const lookupError = (hostname: string, code: string): Error =>
  Object.assign(new Error(`getaddrinfo ${code} ${hostname}`), { code, hostname, syscall: 'getaddrinfo' });
