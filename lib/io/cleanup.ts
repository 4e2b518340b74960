/** Tidying up after work that has succeeded. */

/** Does it; a failure becomes a warning, since what it tidies up after is done all the same. */
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
