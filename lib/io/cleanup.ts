/** Cleanup after successful work. */

/** Runs a cleanup; a failure is only a warning, since the main work has succeeded. */
export async function cleanUp(path: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message
    process.emitWarning(`${path} could not be cleaned up (${reason}); remove it by hand.`, {
      code: 'LOWRANK_CLEANUP',
    })
  }
}
