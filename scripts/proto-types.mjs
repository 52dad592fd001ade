/**
 * TypeScript types of our `.proto` files: `npm run build:proto` writes them, a test says when they are stale.
 *
 * One interface per message, as `grpc/proto.ts` decodes it; what is sent may leave fields out ({@link Sent} there). One
 * interface per service: of each method the request, the response, and whether it streams responses. protobufjs, which
 * decodes the messages, reads the files here as well, so both see the same.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const PROTO = fileURLToPath(new URL('../proto/', import.meta.url));
const TARGET = fileURLToPath(new URL('../src/grpc/messages/', import.meta.url));

const SCALARS = { bool: 'boolean', string: 'string', bytes: 'Buffer' };
/** Of google's own types; 64-bit integers are numbers, see `grpc/proto.ts`. */
const WELL_KNOWN = {
  '.google.protobuf.Timestamp': '{ readonly seconds: number; readonly nanos: number }',
  '.google.protobuf.FieldMask': '{ readonly paths: readonly string[] }',
  '.google.protobuf.Any': '{ readonly type_url: string; readonly value: Buffer }',
  '.google.protobuf.Empty': 'object',
};

/** The `.proto` files, relative to their folder. */
const protoFiles = () =>
  readdirSync(PROTO, { recursive: true })
    .filter((name) => name.endsWith('.proto'))
    .sort();

/** @returns {Map<string, string>} the text of each file below `src/grpc/messages`. */
export function generate() {
  const files = protoFiles();
  return new Map(files.map((file) => [targetOf(file), moduleOf(file)]));
}

/** `lacuna/daemon/v1/daemon.proto` → `daemon.gen.ts`: the last names differ. */
const targetOf = (file) =>
  `${file
    .split('/')
    .at(-1)
    .replace(/\.proto$/, '')}.gen.ts`;

function moduleOf(file) {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (target.startsWith('google/protobuf/') ? target : resolve(PROTO, target));
  root.loadSync(file, { alternateCommentMode: true, keepCase: false }).resolveAll();
  const imports = new Map();
  const parts = declarations(root, join(PROTO, file)).map((object) => declare(object, file, imports));
  const lines = [...imports].map(
    ([from, names]) => `import type { ${[...names].sort().join(', ')} } from './${from}';`,
  );
  return [`// Made from proto/${file} by \`npm run build:proto\`.`, ...lines.sort(), '', ...parts].join('\n');
}

/** Messages, enums and services that the file itself holds, nested ones too. */
function declarations(parent, filename) {
  return (parent.nestedArray ?? []).flatMap((object) => [
    ...(object.filename === filename && object.constructor !== protobuf.Namespace ? [object] : []),
    ...declarations(object, filename),
  ]);
}

function declare(object, file, imports) {
  const typeOf = (resolved) => reference(resolved, file, imports);
  if (object instanceof protobuf.Enum) return enumOf(object);
  if (object instanceof protobuf.Service) return serviceOf(object, typeOf);
  return messageOf(object, typeOf);
}

/** The name of a message or enum, imported when it stands in another file. */
function reference(object, file, imports) {
  const known = WELL_KNOWN[object.fullName];
  if (known !== undefined) return known;
  const home = relative(PROTO, object.filename);
  if (home !== file) {
    const from = targetOf(home);
    imports.set(from, (imports.get(from) ?? new Set()).add(object.name));
  }
  return object.name;
}

const enumOf = (object) =>
  `${comment(object, '')}export type ${object.name} = ${Object.keys(object.values)
    .map((name) => `'${name}'`)
    .join(' | ')};\n`;

function messageOf(message, typeOf) {
  const heading = `${comment(message, '')}export `;
  const choice = message.oneofsArray.find((oneof) => oneof.fieldsArray.length === message.fieldsArray.length);
  if (choice !== undefined && choice.fieldsArray.length > 1) {
    const arms = choice.fieldsArray.map(
      (field) => `${comment(field, '  ')}  | { readonly ${memberOf(field, typeOf)} }`,
    );
    return `${heading}type ${message.name} =\n${arms.join('\n')};\n`;
  }
  const members = message.fieldsArray.map((field) => `${comment(field, '  ')}  readonly ${fieldOf(field, typeOf)};\n`);
  if (members.length === 0) return `${heading}type ${message.name} = object;\n`;
  return `${heading}interface ${message.name} {\n${members.join('')}}\n`;
}

/** Members of a oneof, and optional scalars, are absent when they are not set; a message that is not set is null. */
function fieldOf(field, typeOf) {
  if (field.partOf) return memberOf(field, typeOf).replace(':', '?:');
  const nullable = field.resolvedType instanceof protobuf.Type && !field.repeated && !field.map;
  return `${memberOf(field, typeOf)}${nullable ? ' | null' : ''}`;
}

function memberOf(field, typeOf) {
  const { resolvedType } = field;
  const one = resolvedType ? typeOf(resolvedType) : (SCALARS[field.type] ?? 'number');
  if (field.map) return `${field.name}: Readonly<Record<string, ${one}>>`;
  return `${field.name}: ${field.repeated ? `readonly ${one}[]` : one}`;
}

function serviceOf(service, typeOf) {
  const methods = service.methodsArray.map((method) => {
    const [request, response] = [method.resolvedRequestType, method.resolvedResponseType].map(typeOf);
    const streams = method.responseStream ? '; readonly streams: true' : '';
    const types = `readonly request: ${request}; readonly response: ${response}${streams}`;
    return `${comment(method, '  ')}  readonly ${method.name}: { ${types} };\n`;
  });
  return `${comment(service, '')}export interface ${service.name} {\n${methods.join('')}}\n`;
}

function comment({ comment: text }, indent) {
  if (!text) return '';
  const lines = text.split('\n');
  if (lines.length === 1) return `${indent}/** ${text} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of generate()) writeFileSync(join(TARGET, name), text);
}
