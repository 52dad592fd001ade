/**
 * A worker thread that is kept ready. Starting one, loading its program and warming it up takes longer than most of its
 * work. It never keeps the process alive.
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

  /** Starts a worker, to be taken later. */
  prepare(): void {
    if (this.#spare === null) this.give(this.#start());
  }

  /** Takes a worker. The caller gives it back or terminates it. */
  take(): Worker {
    const worker = this.#spare ?? this.#start();
    this.#spare = null;
    return worker;
  }

  /** Takes a worker back that has finished its work. */
  give(worker: Worker): void {
    if (this.#spare !== null) {
      void worker.terminate();
      return;
    }
    this.#spare = worker;
  }

  [Symbol.dispose](): void {
    void this.#spare?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(this.#program, this.#options);
    worker.unref();
    const forget = (): void => {
      if (this.#spare === worker) this.#spare = null;
    };
    // The owner of a taken worker has listeners of its own.
    return worker.on('error', forget).on('exit', forget);
  }
}
