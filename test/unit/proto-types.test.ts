/** The types of messages are those of the `.proto` files. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { generate } from '../../scripts/proto-types.mjs';

const FOLDER = new URL('../../src/grpc/messages/', import.meta.url);

it('what `npm run build:proto` would write is what is there', () => {
  const files = readdirSync(FOLDER).map((name) => [name, readFileSync(new URL(name, FOLDER), 'utf8')] as const);
  expect(Object.fromEntries(files)).toEqual(Object.fromEntries(generate()));
});
