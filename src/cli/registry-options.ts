/** The options of every command that contacts a registry, and the library options that follow from them. */
import { type Command, Option } from 'commander';
import { storedCredentials } from '../access/credentials.ts';
import type { ForeignLayerPolicy, StoreOptions } from '../registry/store.ts';
import { type Access, certificatesOf, hostsOf, isTrue, readCredentials, usage } from './access.ts';
import type { CliContext } from './command.ts';
import { REGISTRY_OPTIONS } from './help.ts';

/** Help for an argument that names an image of a store. */
export const SOURCE_FORMS =
  'docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF, docker-archive:FILE:NAME:TAG, dir:DIR, or a bare name; ' +
  'FILE - is standard input';

/** Help for an argument that names an image to read, bare files included. */
export const IMAGE_FORMS = `rafs:BOOTSTRAP[,blobs=DIR], ${SOURCE_FORMS}`;

/** Help for an argument that names where an image goes. */
export const TARGET_FORMS =
  'docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF, dir:DIR, or a bare name; FILE - is standard output, ' +
  'which then carries nothing else: the result goes to standard error';

export const AUTHFILE = '--authfile <file>';
export const AUTHFILE_HELP = 'file of logins (default: REGISTRY_AUTH_FILE, or the files of docker and podman)';

export function withRegistryOptions(command: Command): Command {
  return withLogin(withAccess(command))
    .optionsGroup(REGISTRY_OPTIONS)
    .addOption(
      new Option('--foreign-layers <when>', 'fetch layers that the store lacks from the urls that the image names')
        .choices(['public', 'always', 'never'])
        .default('public'),
    )
    .optionsGroup('Options:');
}

/** The options of commands whose registry is then read by the daemon, which receives only these. */
export function withDaemonRegistry(command: Command): Command {
  declare(command, SHARED);
  return withLogin(withClient(command));
}

/** The options that say how a registry is reached. */
export function withAccess(command: Command): Command {
  declare(command, { ...SHARED, ...OWN });
  return withClient(command)
    .optionsGroup(REGISTRY_OPTIONS)
    .option('--cert <file>', 'PEM certificate to show to the registry')
    .option('--key <file>', 'PEM key of that certificate')
    .optionsGroup('Options:');
}

function withClient(command: Command): Command {
  return command
    .optionsGroup(REGISTRY_OPTIONS)
    .option(AUTHFILE, AUTHFILE_HELP)
    .addOption(new Option('--transport <name>', 'HTTP client').choices(['undici', 'node-fetch']).default('undici'))
    .optionsGroup('Options:');
}

function withLogin(command: Command): Command {
  declare(command, CREDS);
  return command
    .option('--username <name>', 'the user, with --password-stdin')
    .option('--password-stdin', 'read the password from standard input')
    .optionsGroup('Options:');
}

type Declarations = Readonly<Record<string, string>>;

function declare(command: Command, options: Declarations): void {
  command.optionsGroup(REGISTRY_OPTIONS);
  for (const [flags, help] of Object.entries(options)) command.option(flags, help);
}

const CREDS: Declarations = {
  '--creds <user[:pass]>': 'user and password; prompts for a missing password (default: see lacuna login)',
};

/** How one registry is reached. */
const SHARED: Declarations = {
  '--plain-http': 'use HTTP (default: for loopback hosts only)',
  '--ca <file>': 'PEM certificates to trust besides the system ones',
};
const OWN: Declarations = {
  '--tls-verify <bool>': 'false: any certificate, or HTTP where there is no HTTPS (default: true)',
  '--cert-dir <dir>': 'certificates as in /etc/docker/certs.d: *.crt to trust, *.cert and *.key to show',
};

const SIDES = { src: 'the source', dest: 'the target' } as const;
type Side = keyof typeof SIDES;

/** {@link withRegistryOptions}, and each of these options again for the source and for the target alone. */
export function withSides(command: Command): Command {
  withRegistryOptions(command).optionsGroup(REGISTRY_OPTIONS);
  for (const [side, name] of Object.entries(SIDES)) {
    for (const flags of Object.keys({ ...SHARED, ...OWN, ...CREDS })) {
      const [option] = flags.split(' ');
      command.option(flags.replace(/^--/, `--${side}-`), `${option}, for ${name} alone`);
    }
  }
  return command.optionsGroup('Options:');
}

/** Declares the options for lazy images that refer to the named image. */
export function withReferrers(command: Command): Command {
  return command
    .option('--referrers', 'use a lazy image that refers to this one (default: unless a digest is named)')
    .option('--no-referrers', 'do not look for lazy images that refer to this one');
}

export const referrersOf = ({ referrers }: Record<string, unknown>): { readonly referrers?: boolean } =>
  typeof referrers === 'boolean' ? { referrers } : {};

interface RegistryOptions extends Access {
  readonly username?: string;
  readonly passwordStdin?: boolean;
  readonly authfile?: string;
  readonly foreignLayers?: ForeignLayerPolicy;
  readonly transport: 'undici' | 'node-fetch';
}

/** Store options for the registries of `images`; credentials on the command line go to no other registry. */
export async function storeOptions(
  context: CliContext,
  options: Record<string, unknown>,
  images: readonly string[] = [],
): Promise<StoreOptions> {
  const { username, passwordStdin, creds, authfile, ...rest } = options as unknown as RegistryOptions;
  if ((username === undefined) !== (passwordStdin === undefined)) {
    throw usage(
      '--username and --password-stdin belong together',
      'or give --creds USER, which prompts for the password',
    );
  }
  if (username !== undefined && creds !== undefined) throw usage('--creds and --username exclude each other', null);
  const login = await readCredentials(creds ?? username);
  const stored = storedCredentials(authfile === undefined ? {} : { authFile: authfile });
  const hosts = hostsOf(images);
  if (login !== null && hosts.size > 1) {
    throw usage(
      `one login cannot be used for several registries: ${[...hosts].join(', ')}`,
      'give --src-creds and --dest-creds',
    );
  }
  const isMeant = (host: string): boolean => hosts.size === 0 || hosts.has(host);
  return {
    credentials: async (host, part) => (login !== null && isMeant(host) ? login : await stored(host, part)),
    transport: rest.transport,
    ...(rest.foreignLayers === undefined ? {} : { foreignLayers: rest.foreignLayers }),
    log: context.log,
    ...(rest.plainHttp === undefined ? {} : { plainHttp: rest.plainHttp }),
    ...(rest.tlsVerify === undefined ? {} : { tlsVerify: isTrue('--tls-verify', rest.tlsVerify) }),
    ...(await certificatesOf(rest)),
  };
}

/** Both sides of a command that reads one image and writes another, as {@link withSides} declares them. */
export async function sideOptions(
  context: CliContext,
  options: Record<string, unknown>,
  source: string,
  target: string,
): Promise<{ readonly source: StoreOptions; readonly target: StoreOptions }> {
  const of = (side: Side): Record<string, unknown> => onSide(options, side);
  const isCommon = ['creds', 'username'].some((name) => options[name] !== undefined);
  const hosts = hostsOf([source, target]);
  if (isCommon && hosts.size > 1) {
    throw usage(
      `one login cannot be used for two registries: ${[...hosts].join(', ')}`,
      'give --src-creds and --dest-creds',
    );
  }
  // One after the other: both may ask for a password.
  const [from, to] = [of('src'), of('dest')];
  const first = await storeOptions(context, from, [source]);
  if (isCommon && from.creds === to.creds) {
    return {
      source: first,
      target: { ...(await storeOptions(context, withoutLogin(to), [target])), ...loginOf(first) },
    };
  }
  return { source: first, target: await storeOptions(context, to, [target]) };
}

const withoutLogin = ({ creds: _c, username: _u, passwordStdin: _p, ...rest }: Record<string, unknown>) => rest;

const loginOf = ({ credentials }: StoreOptions): StoreOptions => (credentials === undefined ? {} : { credentials });

/** The options of one side: they override the common ones. */
function onSide(options: Record<string, unknown>, side: Side): Record<string, unknown> {
  const own = Object.entries(options).flatMap(([name, value]) => {
    const match = new RegExp(`^${side}([A-Z].*)$`).exec(name);
    return match === null ? [] : [[match[1]![0]!.toLowerCase() + match[1]!.slice(1), value] as const];
  });
  const mine: Record<string, unknown> = Object.fromEntries(own);
  return { ...(mine.creds === undefined ? options : withoutLogin(options)), ...mine };
}
