/** `lacuna pull`: an image into containerd, lazily where it can be. */
import type { Command } from 'commander';
import { LacunaError } from '../errors.ts';
import type { CliContext, Verb, VerbResult } from './verb.ts';

interface Options {
  readonly containerd: string;
  readonly namespace: string;
  readonly snapshotter: string;
  readonly snapshotterAddress?: string;
  readonly platform?: string;
  readonly username?: string;
  readonly passwordStdin?: boolean;
  readonly plainHttp?: boolean;
  readonly ca?: string;
}

export const verb: Verb = {
  name: 'pull',
  summary: 'put an image into containerd, lazily where it can be',

  configure(command: Command): void {
    command
      .argument('<image>', 'image of a registry, e.g. registry.example/app:1')
      .option('--containerd <socket>', "containerd's UNIX socket", '/run/containerd/containerd.sock')
      .option('--namespace <name>', "containerd's namespace", 'default')
      .option('--snapshotter <name>', "the proxy plugin's name in containerd's configuration", 'lacuna')
      .option('--snapshotter-address <socket>', "the snapshotter's socket (default: asked of containerd)")
      .option('--platform <os/arch[/variant]>', "default: this machine's")
      .option('--username <name>', "default: the credentials of docker's configuration")
      .option('--password-stdin', 'read the password from standard input')
      .option('--plain-http', 'use HTTP (default: for loopback hosts only)')
      .option('--ca <file>', 'PEM file with certificates to trust besides the system ones');
  },

  async run(
    { log, onProgress, signal }: CliContext,
    args: string[],
    raw: Record<string, unknown>,
  ): Promise<VerbResult> {
    const options = raw as unknown as Options;
    const [{ pull }, credentials, platform, ca] = await Promise.all([
      import('../containerd/pull.ts'),
      credentialsOf(args[0]!, options),
      platformOf(options.platform),
      options.ca === undefined
        ? null
        : import('node:fs/promises').then(({ readFile }) => readFile(options.ca!, 'utf8')),
    ]);
    const result = await pull(args[0]!, {
      containerd: options.containerd,
      namespace: options.namespace,
      snapshotter: options.snapshotter,
      ...(options.snapshotterAddress === undefined ? {} : { snapshotterAddress: options.snapshotterAddress }),
      ...(platform === null ? {} : { platform }),
      credentials,
      ...(options.plainHttp === undefined ? {} : { plainHttp: options.plainHttp }),
      ...(ca === null ? {} : { ca }),
      ...{ log, onProgress, signal },
    });
    const { image, digest, lazyLayers, bytes } = result;
    const text = `${image}@${digest}: ${lazyLayers} lazy layers, ${bytes} bytes fetched`;
    return { document: { schema: 'lacuna.pull.v1', ...result }, text };
  },
};

async function credentialsOf(image: string, { username, passwordStdin }: Options) {
  if ((username === undefined) !== (passwordStdin === undefined)) {
    throw new LacunaError('USAGE', '--username and --password-stdin belong together', { op: 'pull' });
  }
  if (username === undefined) {
    const { dockerConfigCredentials } = await import('../registry/credentials.ts');
    return dockerConfigCredentials();
  }
  const pieces: Buffer[] = [];
  for await (const piece of process.stdin) pieces.push(piece as Buffer);
  const password = Buffer.concat(pieces)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  const { parseReference } = await import('../image/reference.ts');
  const reference = parseReference(image);
  return async (host: string) => {
    return reference.transport === 'docker' && reference.host === host ? { username, password } : null;
  };
}

async function platformOf(text: string | undefined) {
  return text === undefined ? null : (await import('../image/platform.ts')).parsePlatform(text);
}
