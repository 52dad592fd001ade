/** Nothing that an image, a registry or a file says drives the terminal, or reads as if we had said it. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LacunaError } from '../../src/errors.ts';
import { toStatus } from '../../src/grpc/status.ts';
import { progressLine } from '../../src/observe/bar.ts';
import { printable, printableJson, printableLines, printableName } from '../../src/printable.ts';
import { lacuna, lacunaArgs } from '../kit/lacuna.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { END, member, pax } from '../kit/tar.ts';

/** Sets the title, a C1 control, a change of direction, a mark of direction, a line separator. */
const EVIL = '\u001b]0;title\u0007 \u009b31m \u202egnp.exe \u2066 \u2028';
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
const DANGEROUS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

describe('text from elsewhere', () => {
  it('is escaped, and what is harmless stays as it is', () => {
    expect(printable(EVIL)).toBe('\\u001b]0;title\\u0007 \\u009b31m \\u202egnp.exe \\u2066 \\u2028');
    for (const text of ['plain', 'Grüße', '日本語', 'שלום', '👩‍👩‍👧', 'a\u200cb']) expect(printable(text)).toBe(text);
    expect(printableName('a\u001b"')).toBe('"a\\u001b\\""');
    expect(printableName('a "b"')).toBe('a "b"');
  });

  it('is the same value as JSON', () => {
    expect(JSON.parse(printableJson({ [EVIL]: [EVIL] }))).toEqual({ [EVIL]: [EVIL] });
    expect(printableJson(EVIL)).not.toMatch(DANGEROUS);
  });

  it('of several lines is one text', () => {
    expect(printableLines('first\nhint: run this\r\n')).toBe('first\n  hint: run this\\u000d\n  ');
  });

  it('does not reach containerd’s client through gRPC, nor a bar', () => {
    expect(toStatus(new LacunaError('FORMAT', EVIL)).details).not.toMatch(DANGEROUS);
    const event = { phase: 'convert', subject: EVIL, done: 1, total: 2, unit: 'bytes' } as const;
    expect(progressLine({ event, start: 0, now: 1 }, 200)).not.toMatch(DANGEROUS);
  });
});

const skip = needs('dist', 'addon');

describe.skipIf(skip.reason)('what a command prints', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-terminal-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const image = `oci:${dir}/image:v`;
  const lazy = `oci:${dir}/lazy:v`;

  /** A layout whose image says `EVIL` wherever it can. */
  beforeAll(async () => {
    const blobs = join(dir, 'image/blobs/sha256');
    mkdirSync(blobs, { recursive: true });
    const put = (content: Buffer | object) => {
      const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
      const hex = createHash('sha256').update(bytes).digest('hex');
      writeFileSync(join(blobs, hex), bytes);
      return { digest: `sha256:${hex}`, size: bytes.length };
    };
    const latin1 = Buffer.from(EVIL).toString('latin1');
    const tar = Buffer.concat([
      pax({ path: latin1 }),
      member({ name: 'x', data: 'x' }),
      pax({ linkpath: latin1, [`SCHILY.xattr.user.${latin1}`]: latin1 }),
      member({ name: 'link', type: '2' }),
      END,
    ]);
    const layer = put(gzipSync(tar));
    const annotations = { [EVIL]: EVIL };
    const config = put({
      ...{ os: 'linux', architecture: 'amd64', author: EVIL, history: [{ created_by: EVIL, comment: EVIL }] },
      config: { Env: [EVIL], Cmd: [EVIL], User: EVIL, Labels: { [EVIL]: EVIL } },
      rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(tar).digest('hex')}`] },
    });
    const oci = (kind: string) => `application/vnd.oci.image.${kind}`;
    const manifest = put({
      ...{ schemaVersion: 2, mediaType: oci('manifest.v1+json'), annotations },
      config: { mediaType: oci('config.v1+json'), ...config },
      layers: [{ mediaType: oci('layer.v1.tar+gzip'), ...layer, annotations }],
    });
    const listed = { mediaType: oci('manifest.v1+json'), ...manifest };
    const index = put({
      ...{ schemaVersion: 2, mediaType: oci('index.v1+json') },
      manifests: [
        { ...listed, platform: { os: 'linux', architecture: 'amd64' } },
        { ...listed, platform: { os: EVIL, architecture: EVIL, variant: EVIL } },
      ],
    });
    const named = (ref: string) => ({
      ...{ mediaType: oci('index.v1+json'), ...index },
      annotations: { 'org.opencontainers.image.ref.name': ref },
    });
    writeFileSync(join(dir, 'image/oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(
      join(dir, 'image/index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [named('v'), named(EVIL)] }),
    );
    writeFileSync(join(dir, 'bad.tar'), Buffer.concat([pax({ path: latin1 }), member({ name: 'x', type: '6' }), END]));
    await lacuna(['convert', image, lazy, '--platform', 'linux/amd64', '--progress', 'none']);
  }, 60_000);

  /** Both streams, whether it succeeds or not. */
  function printed(...args: string[]): string {
    const { stdout, stderr } = spawnSync(process.execPath, lacunaArgs(...args), { encoding: 'utf8' });
    return stdout + stderr;
  }

  it.each([
    [['inspect', image]],
    [['inspect', image, '--history']],
    [['inspect', image, '--json']],
    [['inspect', lazy, '--tree']],
    [['tags', image]],
    [['tags', image, '--json']],
    [['ls', '-r', image]],
    [['ls', '-r', lazy, '--ndjson']],
    [['find', image]],
    [['find', lazy, '--ndjson']],
    [['stat', image, '/link', `/${EVIL}`]],
    [['check', image]],
    [['check', lazy, '--json']],
    [['diff', image, lazy, '--config']],
    [['inspect', `oci:${dir}/image:none`]],
    [['inspect', `oci:${dir}/image:none`, '--json']],
    [['inspect', `docker-archive:${dir}/bad.tar`]],
    [['cat', image, `/${EVIL}/x`]],
    [['find', image, '--name', EVIL]],
  ])('%j', (args) => {
    const text = printed(...args);
    expect(text).not.toBe('');
    expect(text).not.toMatch(DANGEROUS);
  });

  it('is bytes where bytes are asked for', () => {
    expect(printed('find', image, '--print0')).toContain(EVIL);
  });

  it('is a log without control characters, as text and as JSON', async () => {
    const log = new URL('../../dist/observe/log.js', import.meta.url);
    for (const format of ['text', 'json']) {
      const program = `
        import { openLog } from ${JSON.stringify(log.href)};
        const evil = ${printableJson(EVIL)};
        openLog({ format: ${JSON.stringify(format)} }).warn({ evil, [evil]: { evil }, list: [evil], error: new Error(evil) }, evil);`;
      const { stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
      expect(stderr).toContain('title');
      expect(stderr).not.toMatch(DANGEROUS);
      expect(stderr.split('\n')).toHaveLength(2);
    }
  });
});
