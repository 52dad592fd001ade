/**
 * A daemon in small, to be killed: serves the devices of its options (JSON, first argument) and delivers every miss
 * `delay` ms later from a file. Prints a line when it is ready.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

const addon = createRequire(import.meta.url)('../../../dist/native/lacuna.node');
const { mountpoint, holderSocket, devices, delay } = JSON.parse(process.argv[2]);

const served = new Map();
const fs = await addon.blobFs({ mountpoint, holderSocket, threads: 2, workers: 2 }, async ({ device, chunks }) => {
  // Open, the file system keeps Node; closed, nothing does.
  await sleep(delay, undefined, { ref: false });
  const { table, stored } = served.get(device);
  for (const chunk of chunks) {
    const from = Number(table.readBigUInt64LE(chunk * 64 + 8));
    await fs.deliver(device, chunk, stored.subarray(from, from + table.readUInt32LE(chunk * 64 + 16)));
  }
});
for (const { tableFile, storedFile, ...options } of devices) {
  const table = readFileSync(tableFile);
  served.set(fs.addDevice({ ...options, table, units: null }), { table, stored: readFileSync(storedFile) });
}
fs.ready();
process.on('SIGUSR2', () => process.stdout.write(`${JSON.stringify(fs.counters())}\n`));
process.on('SIGTERM', () => fs.close());
process.stdout.write(`${JSON.stringify(fs.counters())}\n`);
