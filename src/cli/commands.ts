/** The one table of commands: name → loader. Only the command that runs is loaded; help and completion load all. */
import type { CommandSpec } from './command.ts';

export const COMMANDS: Readonly<Record<string, () => Promise<{ readonly command: CommandSpec }>>> = {
  convert: () => import('./convert.ts'),
  dict: () => import('./dict.ts'),
  merge: () => import('./merge.ts'),
  unpack: () => import('./unpack.ts'),
  export: () => import('./export.ts'),
  tags: () => import('./tags.ts'),
  referrers: () => import('./referrers.ts'),
  inspect: () => import('./inspect.ts'),
  check: () => import('./check.ts'),
  diff: () => import('./diff.ts'),
  ls: () => import('./ls.ts'),
  find: () => import('./find.ts'),
  stat: () => import('./stat.ts'),
  cat: () => import('./cat.ts'),
  login: () => import('./login.ts'),
  logout: () => import('./logout.ts'),
  pull: () => import('./pull.ts'),
  mount: () => import('./mount.ts'),
  umount: () => import('./umount.ts'),
  snapshotter: () => import('./snapshotter.ts'),
  daemon: () => import('./daemon.ts'),
  cleanup: () => import('./cleanup.ts'),
  doctor: () => import('./doctor.ts'),
  version: () => import('./version.ts'),
  completion: () => import('./completion.ts'),
};

export const loadAll = (): Promise<CommandSpec[]> =>
  Promise.all(Object.values(COMMANDS).map(async (load) => (await load()).command));
