/** Nothing stays mounted below a test's folder, whatever went wrong: a dead FUSE server must not hang the rest. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

interface Mounted {
  readonly target: string;
  /** `major:minor` of the file system. */
  readonly device: string;
  readonly type: string;
}

/** Mounts below `dir`, the last one mounted first. */
export function mountsBelow(dir: string): Mounted[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [, , device, , target] = line.split(' ');
      const type = line.slice(line.indexOf(' - ') + 3).split(' ', 1)[0];
      const unescaped = target!.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
      return { target: unescaped, device: device!, type: type! };
    })
    .filter(({ target }) => target === dir || target.startsWith(`${dir}/`))
    .reverse();
}

/**
 * Aborts the FUSE connections of mounts below `dir` (their readers get an error instead of waiting for ever), then
 * unmounts all.
 */
export function unmountBelow(dir: string): void {
  const connections = '/sys/fs/fuse/connections';
  for (const { device, type } of mountsBelow(dir)) {
    if (!type.startsWith('fuse')) continue;
    const minor = device.split(':')[1];
    if (!existsSync(`${connections}/${minor}`)) {
      spawnSync('mount', ['-t', 'fusectl', 'fusectl', connections], { stdio: 'ignore' });
    }
    try {
      writeFileSync(`${connections}/${minor}/abort`, '1');
    } catch {
      // Gone in the meantime: nothing to abort.
    }
  }
  for (const { target } of mountsBelow(dir)) spawnSync('umount', ['-l', target], { stdio: 'ignore' });
}
