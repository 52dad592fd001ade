/** Serializes changes: those of one image run one after another, and so do steps that concern all images. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  readonly #lastOf = new Map<string, Promise<void>>();

  /** Runs `work` after all earlier work of this image. */
  ofImage<T>(id: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#lastOf.get(id) ?? Promise.resolve()).then(work);
    const last = result.then(
      () => {},
      () => {},
    );
    this.#lastOf.set(id, last);
    void last.then(() => this.#lastOf.get(id) === last && this.#lastOf.delete(id));
    return result;
  }

  /** Runs `work` after all earlier steps that concern all images. */
  ofAll<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
