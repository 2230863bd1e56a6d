import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/**
 * Refuses topics as managed services do: their bounds, and the words in which Confluent Cloud tells of them.
 * A topic whose name begins with `terse` is refused without a reason, one that begins with `never` whatever is asked for.
 */
public class ManagedTopics implements CreateTopicPolicy {
    @Override
    public void validate(RequestMetadata asked) {
        String name = asked.topic();
        Map<String, String> configs = asked.configs();
        if (name.startsWith("never") && configs.getOrDefault("cleanup.policy", "").equals("compact")) {
            throw new PolicyViolationException("Config property 'cleanup.policy' with value 'compact' is not supported.");
        }
        if (configs.containsKey("min.cleanable.dirty.ratio")) {
            refuse(name, "Altering topic config property min.cleanable.dirty.ratio is not allowed.");
        }
        long segment = Long.parseLong(configs.getOrDefault("segment.bytes", "104857600"));
        if (segment < 52428800L) {
            refuse(name, "Config property 'segment.bytes' with value '" + segment + "' is lower than the minimum allowed value of 52428800.");
        }
        long message = Long.parseLong(configs.getOrDefault("max.message.bytes", "2097164"));
        if (message > 8388608L || (name.startsWith("terse") && message > 2097164L)) {
            refuse(name, "Config property 'max.message.bytes' with value '" + message + "' exceeded max limit of 8388608.");
        }
    }

    private static void refuse(String topic, String reason) {
        throw new PolicyViolationException(topic.startsWith("terse") ? "Request parameters do not satisfy the configured policy." : reason);
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
