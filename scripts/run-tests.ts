// Runs compiled test files with node:test and prints node's own report; after a failure, the command that repeats it.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { currentNode } from './node-current.ts';
import type { TestReport } from './test-report.ts';
import { compiled, matches, plural, root, runProgram } from './tree.ts';

/** What the command line asks for. */
export interface TestRun {
  /** npm's name for it: 'test' or 'run test:mount'. */
  verb: string;
  /** Sources of all test files of this verb. */
  sources: readonly string[];
  /** How many files run at once. */
  concurrency?: number;
}

const timeoutMs = 600_000; // per file: a test that hangs must not hold the machine for ever

/** Runs the tests that the command line picks, and gives the exit code: 0 only if at least one test ran and none failed. */
export async function runTests(run: TestRun): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { node: { type: 'string' }, name: { type: 'string' }, timeout: { type: 'string' } },
  });
  const sources = run.sources.filter((source) => matches(source, positionals));
  if (sources.length === 0) {
    console.error(`no test file matches: ${positionals.join(' ') || '(all)'}; there are ${run.sources.length}`);
    return 1;
  }

  const wanted = values.node ?? process.env.IOMAP_TEST_NODE ?? process.execPath;
  const binary = wanted === 'current' ? await currentNode() : wanted.includes('/') ? resolve(wanted) : wanted;
  const version = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim();
  console.log(`node ${version}: ${plural(sources.length, 'test file')}`);

  const scratch = mkdtempSync(join(tmpdir(), 'iomap-test-'));
  try {
    const reportFile = join(scratch, 'report.json');
    const args = [
      '--enable-source-maps',
      '--test',
      `--test-concurrency=${run.concurrency ?? availableParallelism()}`,
      `--test-timeout=${values.timeout ?? timeoutMs}`,
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      `--test-reporter=${join(root, 'build/scripts/test-report.js')}`,
      `--test-reporter-destination=${reportFile}`,
    ];
    if (values.name !== undefined) args.push(`--test-name-pattern=${values.name}`);
    // Inside a test of the runner itself, the outer run must not leak into the inner one.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { code } = await runProgram(binary, [...args, ...sources.map(compiled)], { stdio: 'inherit', env });

    const report = readReport(reportFile);
    if (report === undefined) console.error('the test run ended without a report');
    else if (report.ran === 0) console.error(`no test ran: ${plural(sources.length, 'file')} without a test that matches`);
    if (code === 0 && report !== undefined && report.ran > 0 && report.failed.length === 0) return 0;

    const seed = process.env.SEED === undefined ? '' : `SEED=${process.env.SEED} `;
    const node = values.node === undefined ? '' : ` --node ${values.node}`;
    console.error(`\nrepeat: ${seed}npm ${run.verb} --${node}${selection(report?.failed ?? [], run.sources, positionals, values.name)}`);
    return code === 0 ? 1 : code;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The arguments that pick the failed tests again: their files; for a test declared in a helper, whose file is no test file, its name. */
function selection(
  failed: TestReport['failed'],
  sources: readonly string[],
  patterns: readonly string[],
  name: string | undefined,
): string {
  const files = [...new Set(failed.map(({ source }) => source))];
  if (files.length > 0 && files.every((file) => sources.includes(file))) {
    return (name === undefined ? '' : ` --name ${quoted(name)}`) + files.map((file) => ` ${file}`).join('');
  }
  const names = [...new Set(failed.map((test) => test.name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')))];
  const pattern = name ?? (names.length > 0 ? `^(?:${names.join('|')})` : undefined);
  return (pattern === undefined ? '' : ` --name ${quoted(pattern)}`) + patterns.map((part) => ` ${part}`).join('');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function readReport(file: string): TestReport | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as TestReport;
  } catch {
    return undefined; // node was killed before the end
  }
}
