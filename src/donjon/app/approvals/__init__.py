"""What approvers are asked and allow: requests, their files, the approvers and what they let go."""
