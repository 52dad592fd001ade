/** Counts HTTP/1.1 requests in the bytes that a client sends on one connection, without keeping bodies. */

/** More than any client of a registry sends; longer heads are not HTTP. */
const MAX_HEAD = 64 * 1024;

const HEAD_END = Buffer.from('\r\n\r\n');
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

export class RequestCounter {
  /** The part of a head that has arrived. */
  private head: Buffer = Buffer.alloc(0);
  /** Bytes of a body still to come, or `chunked` until its last chunk ends a write. */
  private body: number | 'chunked' | 'unknown' = 0;

  /** How many requests begin to be complete with these bytes. */
  push(data: Buffer): number {
    let found = 0;
    let at = 0;
    while (at < data.length) {
      if (this.body === 'unknown') return found;
      if (this.body === 'chunked') {
        if (data.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK)) this.body = 0;
        return found;
      }
      if (this.body > 0) {
        const taken = Math.min(this.body, data.length - at);
        this.body -= taken;
        at += taken;
        continue;
      }
      const before = this.head.length;
      this.head = Buffer.concat([this.head, data.subarray(at)]);
      const end = this.head.indexOf(HEAD_END, Math.max(0, before - HEAD_END.length));
      if (end < 0) {
        // Not HTTP/1.1: nothing on this connection can be counted.
        if (this.head.length > MAX_HEAD) this.body = 'unknown';
        return found;
      }
      found += 1;
      at += end + HEAD_END.length - before;
      this.body = bodyOf(this.head.toString('latin1', 0, end));
      this.head = Buffer.alloc(0);
    }
    return found;
  }
}

function bodyOf(head: string): number | 'chunked' {
  if (/^transfer-encoding:[^\r]*chunked/im.test(head)) return 'chunked';
  const length = /^content-length:[ \t]*(\d+)/im.exec(head);
  return length === null ? 0 : Number(length[1]);
}
