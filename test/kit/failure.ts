import { isLacunaError, type LacunaError } from '../../src/errors.ts';

/** The error that `work` ends with; throws when it is not one of ours, or there is none. */
export async function failure(work: Promise<unknown>): Promise<LacunaError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!isLacunaError(error)) throw error ?? new Error('it went well');
  return error;
}
