import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { probePidNamespace } from '../../../src/doctor/pid-namespace.ts';

describe('the PID namespace', () => {
  let proc: string;
  beforeEach(() => {
    proc = mkdtempSync(join(tmpdir(), 'lacuna-proc-'));
  });
  afterEach(() => rmSync(proc, { recursive: true }));

  const isIn = (namespace: string): void => {
    mkdirSync(join(proc, 'self/ns'), { recursive: true });
    symlinkSync(namespace, join(proc, 'self/ns/pid'));
  };
  const runs = (pid: string, name: string): void => {
    mkdirSync(join(proc, pid));
    writeFileSync(join(proc, pid, 'comm'), `${name}\n`);
  };

  it('of the host shows every process', async () => {
    isIn('pid:[4026531836]');
    expect((await probePidNamespace(proc)).status).toBe('ok');
  });

  it('of a container does when containerd runs in it, as in a node that is a container', async () => {
    isIn('pid:[4026532000]');
    runs('1', 'systemd');
    runs('77', 'containerd');
    expect((await probePidNamespace(proc)).status).toBe('ok');
  });

  it.each(['a container', 'a chroot without /proc'])('of %s without containerd needs its socket', async (where) => {
    if (where === 'a container') isIn('pid:[4026532000]');
    runs('7', 'containerd-shim');
    expect(await probePidNamespace(proc)).toMatchObject({
      status: 'refused',
      why: expect.stringContaining('refuses lazy images'),
      hint: expect.stringContaining('[snapshotter] containerd'),
    });
  });
});
