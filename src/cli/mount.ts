/** `lacuna mount IMAGE DIR`: runs until the directory is unmounted, and unmounts it on SIGINT or SIGTERM. */
import { type Command, Option } from 'commander';
import { DEFAULT_ROOT } from '../daemon/root.ts';
import { isLacunaError } from '../errors.ts';
import type { ImageDriver } from '../mount/image.ts';
import { printableJson } from '../printable.ts';
import type { CliContext, CommandSpec } from './command.ts';
import { imageArgument } from './image-argument.ts';
import { platformOption } from './platform-option.ts';
import { referrersOf, storeOptions, withDaemonRegistry, withReferrers } from './registry-options.ts';

interface Options {
  readonly root: string;
  readonly platform?: string;
  readonly ca?: string;
  readonly driver: 'auto' | ImageDriver;
  readonly suid?: boolean;
  readonly dev?: boolean;
}

export const command: CommandSpec = {
  name: 'mount',
  group: 'run',
  summary: 'mount a lazy image on a directory, read-only, until it is unmounted',
  examples: [
    'lacuna mount docker://registry.example/app:1-lazy /mnt/app',
    'lacuna mount oci:build:app-lazy /mnt/app --driver fuse-native  # without root',
  ],
  takesConfig: true,
  configure(command: Command): void {
    withReferrers(withDaemonRegistry(command))
      .argument(
        '<image>',
        'docker://HOST/NAME:TAG, oci:DIR:REF, dir:DIR, rafs:BOOTSTRAP[,blobs=DIR], or a bare name',
        imageArgument,
      )
      .argument('<dir>', 'an existing directory')
      .option('--root <dir>', 'where caches and sockets of this host are kept', DEFAULT_ROOT)
      .option('--platform <os/arch>', "default: this machine's", platformOption)
      .addOption(
        new Option(
          '--driver <name>',
          'erofs-file, erofs-loop: only this driver; fuse-native: served by this process, slower, needs no EROFS and no root',
        )
          .choices(['auto', 'erofs-file', 'erofs-loop', 'fuse-native'])
          .default('auto'),
      )
      .option('--suid', "let the image's setuid programs work: every user who can reach DIR can run them")
      .option('--dev', "let the image's device nodes work");
  },

  async run(context: CliContext, args: string[], raw: Record<string, unknown>) {
    const { root, platform, ca, driver, suid = false, dev = false } = raw as unknown as Options;
    const { mountImage } = await import('../mount/image.ts');
    const store = await storeOptions(context, raw, args.slice(0, 1));
    const mounted = await mountImage(args[0]!, args[1]!, {
      root,
      suid,
      dev,
      store,
      isLoginShared: ['creds', 'username', 'authfile'].some((name) => raw[name] !== undefined),
      log: context.log,
      onProgress: context.onProgress,
      signal: context.signal,
      ...(driver === 'auto' ? {} : { driver }),
      ...referrersOf(raw),
      ...(platform === undefined ? {} : { platform }),
      ...context.logging,
      ...(context.settings.configFile === undefined ? {} : { config: context.settings.configFile }),
      ...(ca === undefined ? {} : { caFile: ca }),
    });
    const { target } = mounted;
    // Printed before the command ends, because callers wait for the mount.
    const document = { schema: 'lacuna.mount.v1', target, driver: mounted.driver };
    process.stdout.write(context.json ? `${printableJson(document)}\n` : `${target}\n`);
    try {
      await mounted.untilUnmounted(context.signal);
    } catch (error) {
      if (!context.signal.aborted || isLacunaError(error)) throw error;
    }
    await mounted.close();
    return null;
  },
};
