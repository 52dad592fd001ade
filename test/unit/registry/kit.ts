/** What the tests of the client share: a store at a test registry, with quick retries and a log that is kept. */

import type { CredentialSource } from '../../../src/access/credential-source.ts';
import type { DockerReference } from '../../../src/image/reference.ts';
import type { Log } from '../../../src/observe/log.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore, StoreOptions } from '../../../src/registry/store.ts';
import type { LoggedRequest, TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';

export const TRANSPORTS = ['undici', 'node-fetch'] as const;

export const ada: CredentialSource = async () => ({ username: USER, password: PASSWORD });

export const QUICK = { attempts: 4, minDelay: 1, maxDelay: 4, maxRetryAfter: 2_000, total: 120_000 };

export const referenceTo = (
  host: string,
  repository = 'test/image',
  tag: string | null = 'latest',
): DockerReference => ({
  transport: 'docker',
  host,
  repository,
  tag,
  digest: null,
});

export const storeAt = (registry: TestRegistry, options: StoreOptions = {}, repository?: string): Promise<ImageStore> =>
  openStore(referenceTo(registry.host, repository), { retry: QUICK, ...options });

/** Requests for blobs, not uploads. */
export const blobRequests = (registry: TestRegistry): LoggedRequest[] =>
  registry.requests.filter((row) => /\/blobs\/sha/.test(row.path));

/** A log whose lines can be searched; `levels`: of each line. */
export function keptLog(): Log & { readonly lines: string[]; readonly levels: string[] } {
  const [lines, levels]: [string[], string[]] = [[], []];
  const keep = (level: string) => (fields: object, message: string) => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
    levels.push(level);
  };
  return { lines, levels, debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
}
