/** Loaded with `--import`: SIGUSR2 blocks the JavaScript thread for ten seconds. */
process.on('SIGUSR2', () => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10_000);
});
