// A reporter for node:test. Prints one line of JSON at the end: how many tests ran, and which files hold a failure.

import { isAbsolute, relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { root } from './tree.ts';

export interface TestReport {
  /** Tests that passed or failed; suites, skipped tests and files without a test do not count. */
  ran: number;
  /** Where the failed tests were declared: a source, relative to the repository, and the name of the outermost test. */
  failed: { source: string; name: string }[];
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const failed: TestReport['failed'] = [];
  let ran = 0;
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { data } = event;
    const source = sourceOf(data.file ?? data.name);
    if (event.type === 'test:fail' && data.nesting === 0 && data.todo === undefined) failed.push({ source, name: data.name });
    // node reports a file without a test, and one that cannot be loaded, as a test with the name of the file.
    const isFile = sourceOf(data.name) === source;
    if (data.details.type !== 'suite' && !isFile && data.skip === undefined && data.todo === undefined) ran++;
  }
  yield `${JSON.stringify({ ran, failed } satisfies TestReport)}\n`;
}

/** The source of a file as node names it: absolute or not, compiled or already mapped to its source. */
function sourceOf(name: string): string {
  const file = name.startsWith('file:') ? fileURLToPath(name) : name;
  const local = isAbsolute(file) ? relative(root, file) : file;
  return local.startsWith('build/') ? local.slice('build/'.length).replace(/\.js$/, '.ts') : local;
}
