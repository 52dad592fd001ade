/**
 * Lists the tags of a private repository with credentials from a source of its own: here variables of the environment, in
 * a real program a secret store. usage: REGISTRY_USER=… REGISTRY_PASSWORD=… credentials REPOSITORY
 */
import { type CredentialSource, tags } from 'lacuna/reader';

const [repository] = process.argv.slice(2);
if (repository === undefined) throw new Error('usage: credentials REPOSITORY');

/** Called whenever a token is needed, so that a password that expires can be fetched anew. */
function environmentCredentials(host: string): CredentialSource {
  return async (asked) => {
    const { REGISTRY_USER: username, REGISTRY_PASSWORD: password } = process.env;
    // An image can lead to other registries: they must not get this one's password.
    if (asked !== host || username === undefined || password === undefined) return null;
    return { username, password };
  };
}

const host = /^docker:\/\/([^/]+)\//.exec(repository)?.[1];
if (host === undefined) throw new Error('REPOSITORY must begin with docker://HOST/');
const store = { credentials: environmentCredentials(host) };
for await (const tag of tags(repository, { store })) console.log(tag);
