/**
 * Ends a run by naming every skipped test with what it lacked, and with one plain line `N passed, N failed, N skipped`.
 *
 * Under CI=true a skip has to be expected: an entry of `test/skips.json` whose `name` is the test, or a suite or file
 * above it, and whose `reason` says why. Any other skip fails the run; so does an entry without a reason.
 */
import { readFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

interface ExpectedSkip {
  readonly name: string;
  readonly reason: string;
}

interface Skip {
  /** `test/e2e/x.test.ts > suite > test` */
  readonly name: string;
  readonly lacks: readonly string[];
}

/** Skips that no entry of `expected` covers. */
export function unexpectedSkips(skips: readonly Skip[], expected: readonly ExpectedSkip[]): Skip[] {
  const covered = (name: string): boolean =>
    expected.some((entry) => entry.reason !== '' && (name === entry.name || name.startsWith(`${entry.name} > `)));
  return skips.filter((skip) => !covered(skip.name));
}

/** Name of the test with its file, as in skips.json. */
const nameOf = (test: TestCase): string => `${test.module.relativeModuleId} > ${test.fullName}`;

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const skips: Skip[] = [];
    let passed = 0;
    // An error outside of any test counts as a failure of its own, so that no run with one ends in "0 failed".
    let failed = unhandled.length;
    for (const module of modules) {
      if (module.errors().length > 0) failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed += 1;
        else if (state === 'failed') failed += 1;
        else skips.push({ name: nameOf(test), lacks: module.meta().lacks ?? [] });
      }
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) failed += 1;
    }
    let skipped = skips.length;
    const print = (line: string): void => void process.stdout.write(`${line}\n`);
    if (skips.length > 0) print('\nSkipped:');
    for (const { name, lacks } of skips) {
      print(`  ${name}${lacks.length === 0 ? '' : `  (not here: ${lacks.join(', ')})`}`);
    }
    if (process.env.CI === 'true') {
      const file = new URL('../skips.json', import.meta.url);
      const unexpected = unexpectedSkips(skips, JSON.parse(readFileSync(file, 'utf8')) as ExpectedSkip[]);
      if (unexpected.length > 0) print('\nNot in test/skips.json, so a failure under CI=true:');
      for (const { name } of unexpected) print(`  ${name}`);
      if (unexpected.length > 0) process.exitCode = 1;
      failed += unexpected.length;
      skipped -= unexpected.length;
    }
    print(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  }
}
