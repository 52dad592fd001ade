/**
 * The fixtures without access control lists: they are another attribute of as many bytes. Nydus 2.2.0 refuses
 * `system.posix_acl_access` when it builds and when it checks, and go-erofs misspells it.
 */
import { readFileSync } from 'node:fs';
import { fixture } from '../kit/layers.ts';
import { parseRows, type Row } from '../kit/tree.ts';

const replaced = (text: string): string => text.replaceAll('system.posix_acl_access', 'user.not.posix.acl.here');

/** A layer's tar; the name stands in a pax record, which no checksum covers. */
export const withoutAcl = (tar: Buffer): Buffer => Buffer.from(replaced(tar.toString('latin1')), 'latin1');

/** The rows of a ground truth file. */
export const truthWithoutAcl = (file: string): Row[] =>
  parseRows(replaced(readFileSync(fixture('truth', file), 'utf8')));
