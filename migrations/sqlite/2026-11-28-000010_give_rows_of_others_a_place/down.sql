DROP TRIGGER messages_of_others;
