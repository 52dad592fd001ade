/** The version of this package. */
import { createRequire } from 'node:module';

export function packageVersion(): string {
  const found = createRequire(import.meta.url)('../../package.json') as { version: string };
  return found.version;
}
