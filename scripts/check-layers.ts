// Prints what breaks the layering of src, rule by rule, each with what it looked at and how many findings it has. Exits 1 on any finding.
//
//   arrows    every import, type-only ones too, goes along an arrow of the table below
//   cycles    files that import each other. Type-only imports do not count between files, since they are gone at run time and two nouns of
//             one folder may name each other's type; they do count between folders, where an arrow is about what a reader has to know
//   orphans   files that nothing reaches from an entry, a test, a benchmark or a script; a file's own test does not count
//   platform  Node modules and packages are imported only where the platform is met, and the engine does not reach them over any path
//   buffered  no module of buffered I/O reaches the bio modules or a block device at run time
//
// Usage: npm run check -- layers

import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Import, type Imports, readImports } from './imports.ts';
import { plural, root } from './tree.ts';

/** Right of the colon: what the folder imports beside itself. A folder of src that has no row may not exist. */
const arrows: Record<string, string> = {
  base: '',
  layout: 'base',
  sys: 'base layout',
  block: 'base layout sys',
  pagecache: 'base',
  vfs: 'base layout pagecache',
  iomap: 'base block pagecache vfs',
  jbd2: 'base layout block',
  fs: 'base layout block pagecache jbd2 vfs iomap',
  'fs/mirror': 'base layout vfs sys',
  image: 'base block fs/ext4 volume fuse/mount',
  volume: 'base layout vfs',
  'fuse/abi': 'base layout',
  'fuse/transport': 'base sys fuse/abi',
  'fuse/server': 'base vfs fuse/abi fuse/transport',
  'fuse/mount': 'base sys vfs fuse/abi fuse/transport fuse/server',
  'fuse/client': 'base pagecache vfs iomap fuse/abi fuse/transport',
  cli: '*',
  'index.ts': '*',
  'node.ts': '*',
};

/** Folders whose subfolders are siblings that do not know each other; files directly in the folder are for all of them. */
const siblings = ['fs'];

/** Where src may name types of Node, and nothing more of it. */
const platformTypes = /^src\/volume\//;

/** Packages that run wherever the language does, each with the one file that imports it. */
const pure: Record<string, string> = { minimatch: 'src/volume/glob.ts' };

/** Where src may import Node modules and packages. */
const platform = [
  /^src\/sys\//,
  /^src\/block\/file-device\.ts$/,
  /^src\/fs\/mirror\//,
  /^src\/image\//,
  /^src\/node\.ts$/,
  /^src\/cli\//,
  /^src\/fuse\/(?:transport|mount)\//,
];

/** What tsconfig.engine.json compiles without the types of Node. */
const engine = /^src\/(?:(?:base|layout|block|pagecache|jbd2|vfs|iomap|fs(?!\/mirror)|fuse\/abi)\/|index\.ts$)/;

/** Modules of buffered I/O, and what they work without, so that a filesystem with no block device carries none of it. */
const buffered = (
  'iomap iter check-mapping folio-state hooks trace read-range buffered-read buffered-write buffered-file write-begin isize zero-range ' +
  'unshare delalloc page-mkwrite mapped-view writeback file-io seek fiemap truncate fallocate remap copy-range fsync layout-lock'
).split(' ');
const withBio = /^src\/(?:iomap\/(?:bio|bio-read|ioend|direct-io|swapfile)\.ts$|block\/)/;

export interface Rule {
  name: string;
  /** What the rule looked at. */
  looked: string;
  findings: string[];
}

/** All rules over the imports of one tree. */
export function checkLayers(tree: Imports): Rule[] {
  const files = new Set(tree.files);
  const sources = tree.files.filter((file) => file.startsWith('src/') && !isTest(file));
  const fromSrc = tree.imports.filter((imported) => imported.from.startsWith('src/'));
  const graph = edges(tree.imports, files);
  const runtime = edges(
    tree.imports.filter((imported) => !imported.typeOnly),
    files,
  );
  return [
    { name: 'arrows', looked: plural(fromSrc.length, 'import'), findings: againstArrows(fromSrc, files) },
    {
      name: 'cycles',
      looked: plural(sources.length, 'file'),
      findings: [...fileCycles(sources, runtime), ...folderCycles(fromSrc, files)],
    },
    { name: 'orphans', looked: plural(tree.files.length, 'file'), findings: orphans(tree.files, graph) },
    { name: 'platform', looked: plural(sources.length, 'file'), findings: platformReach(fromSrc, sources, graph) },
    bufferedReach(files, runtime),
  ];
}

/** The row of the table that a file of src belongs to: the folder, 'fs/ext4', 'fuse/abi', or the file itself at the top. */
function areaOf(file: string): string {
  const [, folder = '', sub = '', rest] = file.split('/');
  const inner = sub !== '' && rest !== undefined && (siblings.includes(folder) || `${folder}/${sub}` in arrows);
  return inner ? `${folder}/${sub}` : folder;
}

/** The names in the table that allow or are allowed: a sibling goes by its own name and by its folder's. */
function rowOf(area: string): string | undefined {
  return arrows[area] ?? (siblings.includes(posix.dirname(area)) ? arrows[posix.dirname(area)] : undefined);
}

function mayImport(from: string, to: string): boolean {
  const row = rowOf(areaOf(from));
  if (isTest(from) && to.startsWith('test/support/')) return true;
  if (isTest(to) || !to.startsWith('src/')) return false;
  const [area, target] = [areaOf(from), areaOf(to)];
  return row === '*' || area === target || posix.dirname(area) === target || (row?.split(' ').includes(target) ?? false);
}

function againstArrows(imports: readonly Import[], files: ReadonlySet<string>): string[] {
  const unknown = [...files].filter((file) => file.startsWith('src/') && rowOf(areaOf(file)) === undefined);
  const wrong = imports.filter(
    ({ from, to }) => to !== undefined && rowOf(areaOf(from)) !== undefined && !(files.has(to) && mayImport(from, to)),
  );
  return [
    ...unknown.map((file) => `${file}: src/${areaOf(file)} has no row in the table of arrows`),
    ...wrong.map(
      ({ from, line, to = '' }) => `${from}:${line}: ${areaOf(from)} does not import ${files.has(to) ? to : `${to}, which is not there`}`,
    ),
  ];
}

function fileCycles(sources: readonly string[], runtime: Edges): string[] {
  return components(sources, runtime).map((cycle) => `files import each other: ${walk(cycle, runtime)}`);
}

function folderCycles(imports: readonly Import[], files: ReadonlySet<string>): string[] {
  const between = new Map<string, Set<string>>();
  for (const { from, to } of imports) {
    if (isTest(from) || to === undefined || !files.has(to) || !to.startsWith('src/')) continue;
    const [area, target] = [areaOf(from), areaOf(to)];
    if (area !== target) between.set(area, (between.get(area) ?? new Set()).add(target));
  }
  return components([...between.keys()].sort(), between).map((cycle) => `folders import each other: ${walk(cycle, between)}`);
}

function orphans(files: readonly string[], graph: Edges): string[] {
  const entries = new Set([
    'src/index.ts',
    'src/node.ts',
    'src/cli/main.ts',
    'src/cli/mount-helper.ts',
    'src/fuse/mount/worker.ts',
    'src/fuse/mount/watchdog.ts',
    'src/fuse/transport/notifier.ts',
    'src/image/image-source.ts',
  ]);
  const isRoot = (file: string) => entries.has(file) || isTest(file) || /^(?:bench|scripts|examples|test\/(?!support\/))/.test(file);
  // A test starts a walk like any other root, but does not step to the file that it is the test of.
  const skipOwn = (from: string, to: string) => !(isTest(from) && from.replace(/\.test\.ts$/, '.ts') === to);
  const reached = reach(files.filter(isRoot), graph, skipOwn);
  return files.filter((file) => !reached.has(file) && !file.endsWith('.d.ts')).map((file) => `${file}: no one imports it`);
}

function platformReach(imports: readonly Import[], sources: readonly string[], graph: Edges): string[] {
  const isFree = ({ from, specifier, typeOnly }: Import) =>
    (typeOnly && platformTypes.test(from)) || (specifier !== undefined && Object.hasOwn(pure, specifier) && pure[specifier] === from);
  const foreign = imports.filter((imported) => imported.to === undefined && !isTest(imported.from) && !isFree(imported));
  const allowed = (file: string) => platform.some((pattern) => pattern.test(file));
  const direct = foreign.filter(({ from }) => !allowed(from));
  const meets = new Set(foreign.map(({ from }) => from));

  const indirect: string[] = [];
  for (const source of sources.filter((file) => engine.test(file) && !allowed(file))) {
    const path = pathTo(source, graph, (file) => file !== source && meets.has(file));
    if (path !== undefined) indirect.push(`${source}: the engine reaches the platform: ${path.join(' -> ')}`);
  }
  return [...direct.map(({ from, line, specifier }) => `${from}:${line}: imports ${specifier ?? 'what is not a literal'}`), ...indirect];
}

function bufferedReach(files: ReadonlySet<string>, runtime: Edges): Rule {
  const modules = buffered.map((name) => `src/iomap/${name}.ts`).filter((file) => files.has(file));
  const findings: string[] = [];
  for (const module of modules) {
    const path = pathTo(module, runtime, (file) => withBio.test(file));
    if (path !== undefined) findings.push(`${module}: buffered I/O reaches ${path.at(-1)}: ${path.join(' -> ')}`);
  }
  return { name: 'buffered', looked: plural(modules.length, 'module'), findings };
}

function isTest(file: string): boolean {
  return file.endsWith('.test.ts');
}

type Edges = ReadonlyMap<string, ReadonlySet<string>>;

function edges(imports: readonly Import[], files: ReadonlySet<string>): Edges {
  const graph = new Map<string, Set<string>>();
  for (const { from, to } of imports) {
    if (to !== undefined && files.has(to)) graph.set(from, (graph.get(from) ?? new Set()).add(to));
  }
  return graph;
}

function reach(roots: readonly string[], graph: Edges, mayStep: (from: string, to: string) => boolean = () => true): Set<string> {
  const reached = new Set(roots);
  for (const from of reached) {
    for (const to of graph.get(from) ?? []) if (mayStep(from, to)) reached.add(to);
  }
  return reached;
}

/** The shortest path from `from` to a file that `isTarget`, both ends included. */
function pathTo(from: string, graph: Edges, isTarget: (file: string) => boolean): string[] | undefined {
  const cameFrom = new Map<string, string | undefined>([[from, undefined]]);
  for (const file of cameFrom.keys()) {
    if (isTarget(file)) {
      const path: string[] = [];
      for (let step: string | undefined = file; step !== undefined; step = cameFrom.get(step)) path.unshift(step);
      return path;
    }
    for (const to of graph.get(file) ?? []) if (!cameFrom.has(to)) cameFrom.set(to, file);
  }
  return undefined;
}

/** Sets of nodes that all reach each other, of two nodes and up, and nodes that import themselves. */
function components(nodes: readonly string[], graph: Edges): string[][] {
  const done = new Set<string>();
  const found: string[][] = [];
  const reached = new Map(nodes.map((node) => [node, reach([...(graph.get(node) ?? [])], graph)]));
  for (const node of nodes) {
    if (done.has(node) || !reached.get(node)?.has(node)) continue;
    const cycle = nodes.filter((other) => reached.get(node)?.has(other) && reached.get(other)?.has(node));
    for (const member of cycle) done.add(member);
    found.push(cycle);
  }
  return found;
}

/** One way around a cycle, for a reader. */
function walk(cycle: readonly string[], graph: Edges): string {
  const start = cycle[0] ?? '';
  for (const next of graph.get(start) ?? []) {
    const back = pathTo(next, graph, (file) => file === start);
    if (back !== undefined) return [start, ...back].join(' -> ');
  }
  return cycle.join(', ');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const rule of checkLayers(readImports(root))) {
    console.log(`${rule.name}: ${plural(rule.findings.length, 'finding')} in ${rule.looked}`);
    for (const finding of rule.findings) console.log(`  ${finding}`);
    if (rule.findings.length > 0) process.exitCode = 1;
  }
}
