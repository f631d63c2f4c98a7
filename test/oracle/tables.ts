import assert from 'node:assert/strict';
import { argumentCases } from './cases-arguments.ts';
import { contentCases, promisesContentCases } from './cases-content.ts';
import { copyCases, promisesCopyCases } from './cases-copies.ts';
import { descriptorCases } from './cases-descriptors.ts';
import { directoryCases, globCases, promisesDirectoryCases, syncDirectoryCases } from './cases-directories.ts';
import { handleCases } from './cases-handles.ts';
import { pathCases, promisesPathCases, syncPathCases } from './cases-paths.ts';
import { streamCases } from './cases-streams.ts';
import { watchCases } from './cases-watch.ts';
import type { Cases, Form } from './scene.ts';

const both = [argumentCases, pathCases, contentCases, directoryCases, globCases, copyCases];

/** All rows by the form of the API that they are run on. Most run on both. */
export const tables: Record<Form, Cases> = {
  promises: join([
    ...both,
    promisesPathCases,
    promisesContentCases,
    promisesDirectoryCases,
    promisesCopyCases,
    handleCases,
    streamCases,
    watchCases,
  ]),
  sync: join([...both, syncPathCases, syncDirectoryCases, descriptorCases]),
};

function join(parts: readonly Cases[]): Cases {
  const joined: Cases = {};
  for (const [name, test] of parts.flatMap((part) => Object.entries(part))) {
    assert(!(name in joined), `two cases are called '${name}'`);
    joined[name] = test;
  }
  return joined;
}
