// Prints nothing: reads every import of a tree of TypeScript sources, with the compiler's own parser.

import { posix } from 'node:path';
import type { Node, SourceFile } from 'typescript/unstable/ast';
import { SyntaxKind } from 'typescript/unstable/ast';
import type { FileSystem } from 'typescript/unstable/fs';
import { API } from 'typescript/unstable/sync';

/** One import, export-from, import() or import type. */
export interface Import {
  /** The importing file, relative to the root. */
  from: string;
  line: number;
  /** As written; undefined for an import() of something that is not a literal. */
  specifier: string | undefined;
  /** The imported file, relative to the root; undefined for a package or a Node module. */
  to: string | undefined;
  /** True if nothing of it is left at run time. `import { type X }` leaves an import of the file, `import type { X }` does not. */
  typeOnly: boolean;
}

/** The sources of a tree, as paths relative to its root, and their imports. */
export interface Imports {
  files: string[];
  imports: Import[];
}

/** Reads all .ts files in src, test, bench, scripts and examples below `root`, from disk or from `memory`, which then holds the absolute paths. */
export function readImports(root: string, memory?: FileSystem): Imports {
  // A project that exists only here: no library and no resolution, since only the syntax is of interest.
  const project = posix.join(root, 'tsconfig.imports.json');
  const config = JSON.stringify({
    compilerOptions: { noLib: true, noResolve: true, types: [] },
    include: ['src', 'test', 'bench', 'scripts', 'examples'],
  });
  const fs: FileSystem = {
    ...memory,
    readFile: (name) => (name === project ? config : memory?.readFile?.(name)),
    fileExists: (name) => (name === project ? true : memory?.fileExists?.(name)),
  };

  const api = new API({ cwd: root, fs });
  try {
    const program = api.updateSnapshot({ openProjects: [project] }).getProjects()[0]?.program;
    if (program === undefined) throw new Error(`the compiler gave no program for ${root}`);
    const sources = program.getSourceFileNames().map((name) => program.getSourceFile(name));
    const imports: Import[] = [];
    const files: string[] = [];
    for (const source of sources) {
      if (source === undefined) throw new Error('the compiler lists a source that it does not have');
      const from = posix.relative(root, source.fileName);
      files.push(from);
      collect(source, from, imports);
    }
    return { files: files.sort(), imports };
  } finally {
    api.close(); // ends the compiler with a signal; now and then it says "context canceled" to stderr, which means nothing
  }
}

function collect(source: SourceFile, from: string, imports: Import[]): void {
  const add = (node: Node, specifier: Node | undefined, typeOnly: boolean) => {
    const text = specifier?.kind === SyntaxKind.StringLiteral ? (specifier as Node & { text: string }).text : undefined;
    const line = source.text.slice(0, node.getStart(source)).split('\n').length;
    const to = text?.startsWith('.') ? posix.join(posix.dirname(from), text) : undefined;
    imports.push({ from, line, specifier: text, to, typeOnly });
  };

  // A cast per kind of node: the parser's types are wide, and these are the only fields that we read.
  const visit = (node: Node): void => {
    if (node.kind === SyntaxKind.ImportDeclaration) {
      const { importClause, moduleSpecifier } = node as Node & { importClause?: { phaseModifier?: SyntaxKind }; moduleSpecifier: Node };
      add(node, moduleSpecifier, importClause?.phaseModifier === SyntaxKind.TypeKeyword);
    } else if (node.kind === SyntaxKind.ExportDeclaration) {
      const { isTypeOnly, moduleSpecifier } = node as Node & { isTypeOnly: boolean; moduleSpecifier?: Node };
      if (moduleSpecifier !== undefined) add(node, moduleSpecifier, isTypeOnly);
    } else if (node.kind === SyntaxKind.CallExpression) {
      const call = node as Node & { expression: Node; arguments: readonly Node[] };
      if (call.expression.kind === SyntaxKind.ImportKeyword) add(node, call.arguments[0], false);
    } else if (node.kind === SyntaxKind.ImportType) {
      add(node, (node as Node & { argument: { literal?: Node } }).argument.literal, true);
    }
    node.forEachChild(visit);
  };
  visit(source);
}
