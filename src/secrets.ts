/**
 * Passwords and tokens that this process has sent. A receiver may send it back, in an error text or an address, and
 * from there it would reach messages and logs: {@link redact} takes it out.
 */

/** Shorter ones would be found in words that are not secret. Characters. */
const MIN_LENGTH = 8;
/** The latest count: tokens change every few minutes, and only what was just sent is echoed. */
const MAX_SECRETS = 256;

const secrets = new Set<string>();

/** An authorization header that is not ours: a proxy on the way may add one. Words of prose have no digit. */
const HEADER = /\b(Basic|Bearer)(?:\s|%20)+(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}/gi;

/** From now on {@link redact} hides `secret`. */
export function keepSecret(secret: string): void {
  for (const form of new Set([secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)])) {
    if (form.length < MIN_LENGTH) continue;
    secrets.delete(form);
    secrets.add(form);
    if (secrets.size > MAX_SECRETS) secrets.delete(secrets.values().next().value!);
  }
}

/** `text` without any secret that was sent. */
export function redact(text: string): string {
  let clean = text;
  for (const secret of secrets) if (clean.includes(secret)) clean = clean.replaceAll(secret, '[redacted]');
  return clean.replace(HEADER, '$1 [redacted]');
}
