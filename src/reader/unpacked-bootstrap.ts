/** Takes the bootstrap out of a lazy image's last layer that somebody else has unpacked. */
import { close as closeFd, fstatSync, read as readFd } from 'node:fs';
import { promisify } from 'node:util';
import { FormatError, toLacunaError } from '../errors.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { addon } from '../native/addon.ts';
import { BOOTSTRAP_MEMBERS } from './bootstrap.ts';

const read = promisify(readFd);
const close = promisify(closeFd);

/**
 * The bootstrap among the files of `folder`. Only the layer's own bytes: FORMAT when it has no such regular file, or one
 * behind a link, which may lead to what nobody has verified. `subject` names the layer in errors.
 */
export async function readUnpackedBootstrap(folder: string, subject: string): Promise<Buffer> {
  const found = openMember(folder);
  if (found === null) {
    throw new FormatError(BOOTSTRAP_MEMBERS[0]!, 'the bootstrap layer has no such regular file', { subject });
  }
  try {
    const { size } = fstatSync(found.fd);
    if (size > MAX_BOOTSTRAP_SIZE)
      throw new FormatError(found.member, `${size} bytes exceed the limit of ${MAX_BOOTSTRAP_SIZE}`, { subject });
    const bootstrap = Buffer.alloc(size);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await read(found.fd, bootstrap, at, size - at, at);
      if (bytesRead === 0) throw new FormatError(found.member, 'the file became shorter', { subject, offset: at });
      at += bytesRead;
    }
    return bootstrap;
  } catch (error) {
    throw toLacunaError(error, { op: 'read bootstrap', subject });
  } finally {
    await close(found.fd);
  }
}

function openMember(folder: string): { readonly member: string; readonly fd: number } | null {
  const directory = addon().treeDir(Buffer.from(folder));
  try {
    for (const member of BOOTSTRAP_MEMBERS) {
      const fd = directory.openFile(Buffer.from(member));
      if (fd !== null) return { member, fd };
    }
    return null;
  } finally {
    directory.close();
  }
}
