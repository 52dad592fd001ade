/** `lacuna check IMAGE`. */
import type { Command } from 'commander';
import { check } from '../check/check.ts';
import type { Problem } from '../check/findings.ts';
import type { CheckReport } from '../check/report.ts';
import { EXIT } from '../errors.ts';
import { humanBytes } from '../observe/human.ts';
import { paint } from '../observe/style.ts';
import { printable } from '../printable.ts';
import type { CommandSpec } from './command.ts';
import { imageArgument } from './image-argument.ts';
import { shown } from './output.ts';
import { IMAGE_FORMS, storeOptions, withRegistryOptions } from './registry-options.ts';

export const command: CommandSpec = {
  name: 'check',
  group: 'look',
  summary: 'verify every field, digest and reference of an image and list all problems; exit code 5 if there are any',
  examples: ['lacuna check --deep docker://registry.example/app:1-lazy'],
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<image>', IMAGE_FORMS, imageArgument)
      .option('--deep', 'read all data: every layer, every chunk, every checksum')
      .option('--platform <os/arch>', 'only the manifests for this platform (default: all of an index)');
  },
  async run(context, args, options) {
    const { deep, platform } = options as { deep?: boolean; platform?: string };
    const report = await check(args[0]!, {
      deep: deep === true,
      store: await storeOptions(context, options),
      signal: context.signal,
      onProgress: context.onProgress,
      ...(platform === undefined || platform === 'all' ? {} : { platform }),
    });
    const exitCode = report.ok ? EXIT.ok : EXIT.badData;
    return { document: { schema: 'lacuna.check.v1', ...report }, text: describe(report), isStyled: true, exitCode };
  },
};

function describe(report: CheckReport): string {
  const lines: string[] = [];
  let subject: string | null = null;
  for (const problem of report.problems) {
    if (problem.subject !== subject) lines.push(`${shown(problem.subject)}:`);
    subject = problem.subject;
    lines.push(`  ${line(problem)}`);
    if (problem.hint !== null) lines.push(`    hint: ${printable(problem.hint)}`);
  }
  if (report.notListed > 0) lines.push(`and ${report.notListed} more of the same kinds`);
  return [...lines, summary(report)].join('\n');
}

function line({ severity, field, offset, path, message }: Problem): string {
  const place = offset === null ? '' : ` at byte ${offset}`;
  const word = paint(severity === 'error' ? 'red' : 'yellow', `${severity}:`, process.stdout);
  const text = `${field}${place}${path === null ? '' : ` of ${JSON.stringify(path)}`}: ${message}`;
  return `${word} ${printable(text)}`;
}

/** The checked parts: of a lazy image its metadata and blobs, of an ordinary one its layers. */
function summary({ reference, deep, errors, warnings, images }: CheckReport): string {
  const total = (of: (image: CheckReport['images'][number]) => number) =>
    images.reduce((sum, image) => sum + of(image), 0);
  const size = humanBytes(total(({ layersSize }) => layersSize));
  const looked = [counted(images.length, 'manifest')];
  const layers = total((image) => image.layers);
  if (layers > 0) looked.push(`${counted(layers, 'layer')} of ${size}`);
  if (images.some(({ kind }) => kind === 'lazy')) {
    looked.push(
      counted(
        total((image) => image.inodes),
        'inode',
      ),
      counted(
        total((image) => image.chunks),
        'chunk',
      ),
      counted(
        total((image) => image.blobs.length),
        'blob',
      ),
    );
  }
  looked.push(deep ? 'all data read and hashed' : 'data not read, --deep reads it');
  const verdict = errors === 0 && warnings === 0 ? 'clean' : `${errors} errors, ${warnings} warnings`;
  return `${shown(reference)}: ${verdict} (${looked.join(', ')})`;
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
