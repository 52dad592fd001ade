/** What every command says of the image that it looks into: its argument, its platform, and how its registry is reached. */
import type { Command } from 'commander';
import type { OpenImageOptions } from '../reader/image.ts';
import type { CliContext } from './command.ts';
import { imageArgument } from './image-argument.ts';
import { platformOption } from './platform-option.ts';
import { IMAGE_FORMS, referrersOf, storeOptions, withReferrers, withRegistryOptions } from './registry-options.ts';

/** Declares the image as the first argument, or two of them, and the options to find it. */
export function withImage(
  command: Command,
  names: readonly string[] = ['image'],
  register: (command: Command) => Command = withRegistryOptions,
): Command {
  withReferrers(register(command)).option('--platform <os/arch>', 'platform of a multi-platform image', platformOption);
  for (const name of names) command.argument(`<${name}>`, IMAGE_FORMS, imageArgument);
  return command;
}

/** What {@link withImage}'s options mean to the library; `images`: where there are several. */
export async function openOptions(
  context: CliContext,
  options: Record<string, unknown>,
  images: readonly string[] = [],
): Promise<OpenImageOptions> {
  return { ...imageChoices(context, options), store: await storeOptions(context, options, images) };
}

/** Those of them that do not say how a registry is reached. */
export function imageChoices(
  { signal, onProgress }: CliContext,
  options: Record<string, unknown>,
): Omit<OpenImageOptions, 'store'> {
  const platform = options.platform as string | undefined;
  return { signal, onProgress, ...referrersOf(options), ...(platform === undefined ? {} : { platform }) };
}
