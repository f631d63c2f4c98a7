import { runTool } from './run-tool.ts';

const TIMEOUT_MS = 2000;
/** In a process of its own: a call that is not answered cannot be taken back, but who makes it can be killed. */
const PROBE = `try { require('fs').statfsSync(process.argv[1]); console.log('answers') } catch (error) { console.log(error.code) }`;

/** Whether a mount answers: 'answers'; 'stale', if who served it is gone; 'silent'; or the code of the error that it answers with. */
export async function stateOf(directory: string): Promise<string> {
  const { output } = await runTool(process.execPath, ['-e', PROBE, '--', directory], TIMEOUT_MS);
  const answer = output.trim();
  return answer === '' ? 'silent' : answer === 'ENOTCONN' ? 'stale' : answer;
}
