/**
 * On Windows, where no process can send a signal to another one: lets a command receive those that it would get from the
 * console. `lowrank.ts` loads it before the command.
 */
process.on('message', ({ signal }) => {
  if (!process.emit(signal, signal)) process.exit(130)
})
process.channel.unref()
