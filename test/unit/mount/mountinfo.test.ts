import { describe, expect, it } from 'vitest';
import { isBelow, mountedAt, parseMountinfo } from '../../../src/mount/mountinfo.ts';
import { needs } from '../../kit/skip.ts';

describe('parseMountinfo', () => {
  it('reads rows with no, one and several optional fields', () => {
    const text = [
      '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard',
      '44 27 0:41 / /tmp/mnt ro,relatime shared:5 - erofs /srv/bootstrap ro,user_xattr,acl',
      '46 27 0:42 /sub /var/lib/x rw shared:1 master:2 - fuse.lacuna lacuna rw,user_id=0',
      '',
    ].join('\n');
    expect(parseMountinfo(text)).toEqual([
      { device: '254:0', root: '/', target: '/', fstype: 'ext4', source: '/dev/vda', options: 'rw,discard' },
      {
        device: '0:41',
        root: '/',
        target: '/tmp/mnt',
        fstype: 'erofs',
        source: '/srv/bootstrap',
        options: 'ro,user_xattr,acl',
      },
      {
        device: '0:42',
        root: '/sub',
        target: '/var/lib/x',
        fstype: 'fuse.lacuna',
        source: 'lacuna',
        options: 'rw,user_id=0',
      },
    ]);
  });

  it('undoes the octal escapes in targets and sources, and only those', () => {
    const line = String.raw`1 2 0:9 / /a\040b\011c\012d\134e\134040é-\777 rw - erofs /s\040t rw`;
    expect(parseMountinfo(line)).toMatchObject([{ target: '/a b\tc\nd\\e\\040é-\\777', source: '/s t' }]);
  });

  it('takes a "-" in a path or a tag for what it is', () => {
    expect(parseMountinfo('1 2 0:9 - - rw - tmpfs - rw')).toMatchObject([
      { target: '-', fstype: 'tmpfs', source: '-' },
    ]);
  });

  it.each(['', 'nonsense', '1 2 0:9 / /x rw shared:1', '1 2 0:9 / /x rw - tmpfs'])('leaves %j out', (line) => {
    expect(parseMountinfo(line)).toEqual([]);
  });
});

describe('isBelow', () => {
  it.each([
    ['/a/b', '/a', true],
    ['/a', '/a', true],
    ['/ab', '/a', false],
    ['/a', '/a/b', false],
    ['/a', '/', true],
  ])('%s below %s: %s', (path, folder, expected) => expect(isBelow(path, folder)).toBe(expected));
});

describe.skipIf(needs('linux').reason)('mountedAt', () => {
  it('finds /proc, and nothing where nothing is mounted', async () => {
    expect(await mountedAt('/proc')).toMatchObject({ target: '/proc', fstype: 'proc' });
    expect(await mountedAt('/proc/self')).toBeNull();
    expect(await mountedAt('/no/such/folder')).toBeNull();
  });
});
