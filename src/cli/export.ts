/** `lacuna export IMAGE FILE`. */
import type { Command } from 'commander';
import { humanBytes } from '../observe/human.ts';
import type { CommandSpec } from './command.ts';
import { openOptions, withImage } from './image-options.ts';

export const command: CommandSpec = {
  name: 'export',
  group: 'build',
  summary: 'write a lazy image as one EROFS disk image, for mount and for virtual machines',
  examples: ['lacuna export docker://registry.example/app:1-lazy app.erofs'],
  configure(command: Command): void {
    withImage(command).argument('<file>', 'the file to write; an existing file is replaced');
  },
  async run(context, [image, file], options) {
    const { exportImage } = await import('../convert/export.ts');
    const result = await exportImage(image!, file!, {
      ...(await openOptions(context, options)),
      onProgress: context.onProgress,
    });
    const { path, size, metadataSize, chunks, contentSize, dropped } = result;
    const lines = [
      `${path}: ${humanBytes(size)} with ${humanBytes(metadataSize)} of metadata; ${chunks} chunks of ${humanBytes(contentSize)}`,
    ];
    if (dropped > 0) lines.push(`left out: ${dropped} extended attributes that EROFS cannot store`);
    return { document: { schema: 'lacuna.export.v1', ...result }, text: lines.join('\n') };
  },
};
