/** Refuses a run that is far too large for this machine before its model is loaded. */
import { formatBytes } from '../core/bytes.js'
import { cardOf, type DeviceOption, deviceOf } from '../native/device.js'
import { sizesOf } from '../planning/cards.js'
import { openPlanner } from '../planning/plan.js'
import { checkRoom } from '../planning/room.js'
import type { RunConfig } from '../train/config/config.js'
import { memorySettings, pagedHere, planShape } from '../train/config/preflight.js'
import type { Processes } from '../train/processes/processes.js'

/**
 * @param call the config and its overrides, as on a command line
 * @throws {OutOfMemoryError} when the plan needs far more than the memory that is free
 */
export async function checkFits(
  config: RunConfig,
  {
    device,
    ranks,
    call,
    signal,
  }: { device: DeviceOption; ranks: Processes; call: string; signal: AbortSignal },
): Promise<void> {
  const card = cardOf(deviceOf(device, ranks.place))
  const { rank, size } = ranks
  const planner = await openPlanner(config.model, {
    ...planShape(config),
    ...{ revision: config.revision, signal },
    ...(card ? { card: sizesOf(card) } : {}),
    ...(config.split === 'layers' && size > 1 ? { part: { rank, ranks: size } } : {}),
  })
  const paged = card ? undefined : pagedHere(config, planner.plan).paged
  const memory = planner.plan(paged ? { optimizer: paged.optimizer } : {})
  const available = process.availableMemory()
  checkRoom(
    memory,
    { needed: card ? memory.pinnedBytes : memory.peakBytes, available },
    memorySettings(config, planner),
    `\`npx lowrank plan ${call} --fit ${formatBytes(available).replace(' ', '')}\` looks for settings that fit; --force trains all the same.`,
  )
}
