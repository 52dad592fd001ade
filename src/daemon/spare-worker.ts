/**
 * A worker thread that waits for work. Starting one, loading its program and warming it up takes longer than most of its
 * work.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads';

export class SpareWorker implements Disposable {
  readonly #program: URL;
  readonly #options: WorkerOptions;
  #spare: Worker | null = null;

  constructor(program: URL, options: WorkerOptions) {
    this.#program = program;
    this.#options = options;
  }

  /** Starts one, to be taken later. */
  prepare(): void {
    if (this.#spare === null) this.give(this.#start());
  }

  /** The caller's until it is given back or terminated. */
  take(): Worker {
    const worker = this.#spare ?? this.#start();
    this.#spare = null;
    worker.ref();
    return worker;
  }

  /** Takes back one that has done its work. It does not keep the process alive. */
  give(worker: Worker): void {
    if (this.#spare !== null) {
      void worker.terminate();
      return;
    }
    worker.unref();
    this.#spare = worker;
  }

  [Symbol.dispose](): void {
    void this.#spare?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(this.#program, this.#options);
    const forget = (): void => {
      if (this.#spare === worker) this.#spare = null;
    };
    // Who has taken it listens as well.
    return worker.on('error', forget).on('exit', forget);
  }
}
