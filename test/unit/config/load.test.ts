import { describe, expect, it } from 'vitest';
import { defaultConfig, parseConfig, sampleConfig } from '../../../src/config/load.ts';

const failure = (source: string) => {
  try {
    parseConfig(source, 'lacuna.toml');
  } catch (error) {
    return error as { code: string; message: string; hint: string | null; subject: string };
  }
  throw new Error('accepted');
};

describe('configuration', () => {
  it('reads sizes and durations with units and keeps defaults for the rest', () => {
    const config = parseConfig('version = 1\n[fetch]\nwindow = "2MiB"\ndeadline = "1.5s"\nconnections = 3\n', 'x');
    expect(config.fetch).toEqual({ window: 2097152, in_flight: 1048576, connections: 3, deadline: 1500 });
    expect(config.daemon).toEqual(defaultConfig().daemon);
  });

  it('suggests the key that was meant', () => {
    expect(failure('version = 1\n[fetch]\nwindows = "1MiB"\n')).toMatchObject({
      code: 'CONFIG',
      message: 'fetch.windows is not a known key',
      hint: 'did you mean fetch.window?',
      subject: 'lacuna.toml',
    });
    expect(failure('version = 1\n[fetsh]\n').hint).toBe('did you mean fetch?');
  });

  it.each([
    ['', 'version must be 1'],
    ['version = 2\n', 'version must be 1'],
    ['version = 1\n[fetch]\nwindow = 3\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nwindow = "3 parsec"\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nconnections = 0\n', 'fetch.connections must be a whole number of at least 1'],
    ['version = 1\n[registry]\nplain_http = "x"\n', 'registry.plain_http must be a list of strings'],
    ['version = 1\nfetch = 1\n', 'fetch must be a table'],
  ])('refuses %j', (source, message) => {
    expect(failure(source).message).toBe(message);
  });

  it('names the line of a TOML error', () => {
    expect(failure('version = \n').message).toMatch(/line|1/);
  });

  it('has a sample whose uncommented values are the defaults', () => {
    const uncommented = sampleConfig().replace(/^# (\w+ = )/gm, '$1');
    expect(parseConfig(uncommented, 'sample')).toEqual(defaultConfig());
  });
});
