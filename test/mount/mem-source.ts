// What a mount in a test serves.
import { MemFs } from '../support/mem-fs.ts';

export default (): MemFs => new MemFs();
