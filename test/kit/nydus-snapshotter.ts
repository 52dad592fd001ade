/** nydus-snapshotter with nydusd, as a host that has never heard of us runs images; see `test/oracle/programs`. */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { oraclePath } from '#cache';
import { unmountBelow } from './mounts.ts';
import { start, waitUntil } from './process.ts';

export interface NydusSnapshotter extends AsyncDisposable {
  /** Socket for containerd. */
  readonly address: string;
  readonly root: string;
  /** What it and its nydusd have logged. */
  log(): string;
}

/** What nydusd is told about every image; the snapshotter adds registry and repository. As in the project's own example, but over plain HTTP
 * (which its own search in an index tries only with `skip_verify`). */
const NYDUSD = {
  device: {
    backend: {
      type: 'registry',
      config: { scheme: 'http', skip_verify: true, timeout: 5, connect_timeout: 5, retry_limit: 2 },
    },
    cache: { type: 'blobcache' },
  },
  mode: 'direct',
  digest_validate: false,
  iostats_files: false,
  enable_xattr: true,
  amplify_io: 1048576,
  fs_prefetch: { enable: true, threads_count: 2, merging_size: 1048576, prefetch_all: false },
};

/**
 * Starts it under `dir` (short); disposing of it takes nydusd and the mounts down as well. `indexDetect`: it looks for a lazy
 * manifest beside the one that containerd has chosen of an index.
 */
export async function startNydusSnapshotter(
  dir: string,
  options: { readonly indexDetect?: boolean } = {},
): Promise<NydusSnapshotter> {
  mkdirSync(dir, { recursive: true });
  const [root, address] = [join(dir, 'root'), join(dir, 's.sock')];
  const [nydusd, template, config] = [join(dir, 'nydusd'), join(dir, 'nydusd.json'), join(dir, 'config.toml')];
  // It would raise its limit of open files, which is not allowed everywhere.
  writeFileSync(nydusd, `#!/bin/sh\nexec '${oraclePath('nydusd')}' "$@" --rlimit-nofile 0\n`);
  chmodSync(nydusd, 0o755);
  writeFileSync(template, JSON.stringify(NYDUSD));
  const text = JSON.stringify;
  writeFileSync(
    config,
    `version = 1
root = ${text(root)}
address = ${text(address)}
daemon_mode = "dedicated"
cleanup_on_close = true
[system]
enable = false
[daemon]
nydusd_config = ${text(template)}
nydusd_path = ${text(nydusd)}
nydusimage_path = ${text(oraclePath('nydus-image'))}
fs_driver = "fusedev"
recover_policy = "none"
[cgroup]
enable = false
[log]
log_to_stdout = true
[snapshot]
enable_nydus_overlayfs = false
[experimental]
enable_index_detect = ${options.indexDetect ?? false}
`,
  );
  const program = start(oraclePath('containerd-nydus-grpc'), ['--config', config]);
  await waitUntil(program, 'containerd-nydus-grpc', () => existsSync(address));
  return {
    address,
    root,
    log: program.output,
    async [Symbol.asyncDispose]() {
      await program.stop();
      unmountBelow(dir);
    },
  };
}
