import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isLacunaError } from '../../../src/errors.ts';
import { formatReference, parseReference, type Reference } from '../../../src/image/reference.ts';

const HEX = 'ab'.repeat(32);
const DIGEST = `sha256:${HEX}`;

const docker = (host: string, repository: string, tag: string | null, digest: string | null = null): Reference => ({
  transport: 'docker',
  host,
  repository,
  tag,
  digest,
});

describe('good references', () => {
  const cases: [text: string, reference: Reference, canonical?: string][] = [
    ['debian', docker('docker.io', 'library/debian', 'latest'), 'docker://docker.io/library/debian:latest'],
    ['debian:12', docker('docker.io', 'library/debian', '12'), 'docker://docker.io/library/debian:12'],
    ['docker.io/debian', docker('docker.io', 'library/debian', 'latest'), 'docker://docker.io/library/debian:latest'],
    ['index.docker.io/a/b', docker('docker.io', 'a/b', 'latest'), 'docker://docker.io/a/b:latest'],
    ['ada/debian', docker('docker.io', 'ada/debian', 'latest'), 'docker://docker.io/ada/debian:latest'],
    ['docker://ghcr.io/a/b/c:v1', docker('ghcr.io', 'a/b/c', 'v1')],
    ['localhost/x', docker('localhost', 'x', 'latest'), 'docker://localhost/x:latest'],
    ['docker://localhost:5000/x:1', docker('localhost:5000', 'x', '1')],
    ['docker://[::1]:5000/x:1', docker('[::1]:5000', 'x', '1')],
    ['docker://127.0.0.1:5000/x:1', docker('127.0.0.1:5000', 'x', '1')],
    ['docker://HOST/x:1', docker('HOST', 'x', '1')],
    ['docker:27-dind', docker('docker.io', 'library/docker', '27-dind'), 'docker://docker.io/library/docker:27-dind'],
    ['docker:5000/x', docker('docker:5000', 'x', 'latest'), 'docker://docker:5000/x:latest'],
    ['dirs:1', docker('docker.io', 'library/dirs', '1'), 'docker://docker.io/library/dirs:1'],
    [`docker://r.example/x@${DIGEST}`, docker('r.example', 'x', null, DIGEST)],
    [`docker://r.example/x:1@${DIGEST}`, docker('r.example', 'x', '1', DIGEST)],
    [`docker://r.example/x@sha512:${HEX}${HEX}`, docker('r.example', 'x', null, `sha512:${HEX}${HEX}`)],
    ['docker://r.example/a__b.c-d--e/f:_x.Y-1', docker('r.example', 'a__b.c-d--e/f', '_x.Y-1')],
    ['oci:dir', { transport: 'oci', path: 'dir', ref: null }],
    ['oci:/a/b:latest', { transport: 'oci', path: '/a/b', ref: 'latest' }],
    ['oci:dir:docker.io/library/x:1', { transport: 'oci', path: 'dir', ref: 'docker.io/library/x:1' }],
    ['dir:/a:b', { transport: 'dir', path: '/a:b' }],
    ['oci-archive:a.tar', { transport: 'oci-archive', path: 'a.tar', ref: null }],
    ['oci-archive:-:v1', { transport: 'oci-archive', path: '-', ref: 'v1' }],
    ['docker-archive:-', { transport: 'docker-archive', path: '-', ref: null }],
    [
      'docker-archive:/d.tar:alpine',
      { transport: 'docker-archive', path: '/d.tar', ref: 'docker.io/library/alpine:latest' },
      'docker-archive:/d.tar:docker.io/library/alpine:latest',
    ],
    ['docker-archive:d:r.io:5000/x:1', { transport: 'docker-archive', path: 'd', ref: 'r.io:5000/x:1' }],
    ['docker-archive:d:@3', { transport: 'docker-archive', path: 'd', ref: '@3' }],
    [`oci:dir:${DIGEST}`, { transport: 'oci', path: 'dir', ref: DIGEST }],
    ['rafs:image.boot', { transport: 'rafs', bootstrap: 'image.boot', blobs: null }],
    ['rafs:/a,b/image.boot,blobs=/c', { transport: 'rafs', bootstrap: '/a,b/image.boot', blobs: '/c' }],
  ];
  test.each(cases)('%s', (text, reference, canonical) => {
    expect(parseReference(text)).toEqual(reference);
    expect(formatReference(reference)).toBe(canonical ?? text);
    expect(parseReference(formatReference(reference))).toEqual(reference);
  });
});

describe('bad references', () => {
  const cases: [text: string, problem: RegExp, hint?: RegExp][] = [
    ['', /empty/],
    ['a b', /"a b" is not a part of a repository name/],
    ['x\n', /control character/],
    ['Debian', /"Debian" is not a part/, /lower case/],
    ['docker://', /the repository is missing/],
    ['docker:///x', /the registry is missing/],
    ['docker://r.example/', /the repository is missing/],
    ['docker://127.0.0.1:5000', /the repository is missing/],
    ['localhost:5000', /the repository is missing/],
    ['docker://r.example//x', /is not a part/],
    ['docker://r.example/x/', /is not a part/],
    ['docker://r.example/../x', /"\.\." is not a part/],
    ['docker://r.example/x:', /"" is not a tag/],
    ['docker://r.example/x:-a', /"-a" is not a tag/],
    [`docker://r.example/x:${'a'.repeat(129)}`, /is not a tag/],
    ['docker://r.example/x@sha256:abc', /not a digest/],
    [`docker://r.example/x@md5:${HEX}`, /not a digest/],
    [`docker://r.example/x@sha256:${HEX.toUpperCase()}`, /not a digest/],
    ['docker://user@r.example/x', /not a digest/],
    ['docker://r.example:0/x', /0 is not a port/],
    ['docker://r.example:65536/x', /65536 is not a port/],
    ['docker://r.example:x/y', /is not a registry/],
    ['docker://-r.example/y', /is not a registry/],
    [`docker://r.example/${'a'.repeat(250)}`, /too long/],
    ['https://r.example/x', /not a URL/, /docker:\/\//],
    ['dockre://r.example/x', /"dockre:\/\/" is not a transport/, /^did you mean docker:\/\/r\.example\/x\?$/],
    ['Docker://r.example/x', /"Docker:\/\/" is not a transport/, /^did you mean docker:\/\/r\.example\/x\?$/],
    ['ftp://r.example/x', /"ftp:\/\/" is not a transport/, /^supported: docker:\/\/, oci:/],
    ['docker:r.example/x:1', /"docker:" is not a transport/, /did you mean docker:\/\/r\.example\/x:1\?/],
    ['docker:r.example:5000/x', /"docker:" is not a transport/, /did you mean docker:\/\/r\.example:5000\/x\?/],
    ['oci-archve:x.tar', /"oci-archve:" is not a transport/, /did you mean oci-archive:x\.tar\?/],
    ['docker-achive:x.tar', /"docker-achive:" is not a transport/, /did you mean docker-archive:x\.tar\?/],
    ['OCI:dir', /"OCI:" is not a transport/, /did you mean oci:dir\?/],
    ['sif:x', /sif: is not supported/, /docker:\/\/sif:x/],
    ['docker-daemon:x', /docker-daemon: is not supported/],
    ['dir:', /the directory is missing/],
    ['oci-archive:', /the file is missing/],
    ['oci-archive::x', /the file is missing/],
    ['oci-archive:x:', /"" is not a ref name/],
    ['oci-archive:x:@0', /"@0" is not a ref name/],
    ['docker-archive:x:Upper', /is not a part of a repository name/],
    [`docker-archive:x:a@${DIGEST}`, /have no digest/],
    ['oci:', /the directory is missing/],
    ['oci::x', /the directory is missing/],
    ['oci:dir:', /"" is not a ref name/],
    ['oci:dir:a//b', /not a ref name/],
    ['oci:dir:-a', /not a ref name/],
    ['rafs:', /the bootstrap is missing/],
    ['rafs:a,blobs=', /directory of the blobs is missing/],
  ];
  test.each(cases)('%j', (text, problem, hint) => {
    let caught: unknown;
    try {
      parseReference(text);
    } catch (error) {
      caught = error;
    }
    if (!isLacunaError(caught)) throw new Error(`parsed, or threw ${String(caught)}`);
    expect(caught.code).toBe('REFERENCE');
    expect(caught.op).toBe('parse reference');
    expect(caught.message).toMatch(problem);
    expect(caught.hint).toMatch(hint ?? /./);
  });

  test.each([
    'docker://ada:s3cret@r.example/x',
    'docker://ada:s3cret@r.example',
    'docker://ada:s3cret@r.example:5000',
    `docker://ada:s3cret@r.example/x@${DIGEST}`,
    'docker://ada:s3/cr@et:s3cret@r.example/x:1',
    'docker://s3cret@r.example/x',
    'ada:s3cret@r.example/x',
    'dockre://ada:s3cret@r.example/x',
    'docker:ada:s3cret@r.example/x',
    'docker-daemon:ada:s3cret@r.example/x',
    'https://ada:s3cret@r.example/x',
    'docker-archive:x.tar:ada:s3cret@r.example/x',
    `docker://ada:s3cret@r.example/${'x'.repeat(5000)}`,
    'docker://ada:s3cret@r.example/x\n',
  ])('a password is nowhere in the error of %s', (text) => {
    let caught: unknown;
    try {
      parseReference(text);
    } catch (error) {
      caught = error;
    }
    if (!isLacunaError(caught)) throw new Error(`parsed, or threw ${String(caught)}`);
    expect(`${caught.message}\n${JSON.stringify(caught)}`).not.toContain('s3cret');
    expect(caught.subject).toContain('@r.example');
  });

  test('more than 4096 characters', () => {
    expect(() => parseReference('x'.repeat(5000))).toThrow(/too long/);
  });

  test('a layout whose directory has a colon cannot be written', () => {
    expect(() => formatReference({ transport: 'oci', path: 'a:b', ref: null })).toThrow(/has a colon/);
  });
});

describe('properties', () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const repository = fc.array(fc.tuple(word, fc.constantFrom('.', '_', '__', '-', '--'), word), {
    minLength: 1,
    maxLength: 4,
  });
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);
  const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
  const host = fc.tuple(word, word, fc.option(fc.integer({ min: 1, max: 65535 }), { nil: null }));

  test('formatted and parsed again is the same', () => {
    fc.assert(
      fc.property(
        host,
        repository,
        fc.option(tag, { nil: null }),
        fc.option(hex, { nil: null }),
        (where, parts, name, sum) => {
          const reference = docker(
            `${where[0]}.${where[1]}${where[2] === null ? '' : `:${where[2]}`}`,
            parts.map((part) => part.join('')).join('/'),
            name ?? (sum === null ? 'latest' : null),
            sum === null ? null : `sha256:${sum}`,
          );
          fc.pre(
            reference.transport === 'docker' && reference.host !== 'docker.io' && reference.host !== 'index.docker.io',
          );
          expect(parseReference(formatReference(reference))).toEqual(reference);
        },
      ),
    );
  });

  test('any text is parsed to something that survives a round trip, or refused with REFERENCE', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string().map((rest) => `oci:${rest}`),
      fc.string().map((rest) => `docker://r.io/${rest}`),
      fc.string().map((rest) => `oci-archive:${rest}`),
      fc.string().map((rest) => `docker-archive:x:${rest}`),
      fc.string().map((rest) => `dir:${rest}`),
    );
    fc.assert(
      fc.property(text, (input) => {
        let reference: Reference;
        try {
          reference = parseReference(input);
        } catch (error) {
          expect(isLacunaError(error) && error.code).toBe('REFERENCE');
          return;
        }
        expect(parseReference(formatReference(reference))).toEqual(reference);
      }),
      { numRuns: 2000 },
    );
  });

  test('hostile lengths are answered at once', () => {
    const began = performance.now();
    for (const part of ['a', 'a.', 'a-', '-', 'a/', '[', ':', '@', '_']) {
      expect(() => parseReference(`oci:x:${part.repeat(2000)}!`)).toThrow();
      expect(() => parseReference(`r.io/${part.repeat(2000)}!`)).toThrow();
    }
    expect(performance.now() - began).toBeLessThan(1000);
  });
});
